import pytest
import torch

from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline.core.networks.multiscale import middle_of
from luna_pipeline.core.networks.parts import HounsfieldScaling


@pytest.mark.parametrize("shape", [(8, 8, 8), (32, 48, 48), (9, 10, 15)])
def test_the_candidate_stays_in_the_middle_of_the_view(shape):
    chunks = torch.zeros(1, 1, *shape)
    chunks[0, 0, shape[0] // 2, shape[1] // 2, shape[2] // 2] = 1
    view = middle_of(chunks)
    halves = [size // 2 for size in shape]
    assert list(view.shape[2:]) == halves
    assert view[0, 0, halves[0] // 2, halves[1] // 2, halves[2] // 2] == 1


def test_both_views_are_seen():
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name="multiscale", chunk_shape_irc=(16, 16, 16), block="biased")).eval()
    torch.nn.init.normal_(network.head.weight)
    chunks = torch.randn(1, 1, 16, 16, 16) * 300
    rim, half_step = chunks.clone(), chunks.clone()
    rim[..., :2, :, :] += 500
    # Neighbours are swapped: the mean of each pair, the input of the coarse view, is unchanged.
    half_step[..., 8:10] = half_step[..., [9, 8]]
    logits = network(chunks)
    assert not torch.allclose(network(rim), logits, atol=1e-4)
    assert not torch.allclose(network(half_step), logits, atol=1e-4)


def test_a_single_level_leaves_no_block_for_a_view():
    with pytest.raises(ValueError, match="n_blocks of multiscale must be at least 2, got 1"):
        build_network(NetworkConfig(name="multiscale", n_blocks=1))


def test_hounsfield_units_come_in_near_0():
    chunks = torch.tensor([-1000.0, -500.0, 0.0, 1000.0])
    assert HounsfieldScaling()(chunks).tolist() == [-1.0, 0.0, 1.0, 3.0]
