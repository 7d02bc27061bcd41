import pytest
import torch

from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.luna import build_network, context_slices_of, is_segmenter
from luna_pipeline.core.networks.segmenters import network_input, target_of

CONFIG = NetworkConfig(name="unet3d", n_blocks=3, conv_channels=2, dropout_rate=0.0, chunk_shape_irc=(8, 16, 16))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = build_network(CONFIG)
    # Running statistics other than 0 and 1, which folding must take into account.
    for _ in range(3):
        network(300 * torch.randn(2, 1, 8, 16, 16))
    return network.eval()


@pytest.mark.parametrize("shape", [(8, 16, 16), (5, 9, 11), (1, 1, 1)])
def test_logits_have_the_shape_of_any_input(network, shape):
    assert network(torch.zeros(2, 1, *shape)).shape == (2, 1, *shape)


def test_it_is_a_volume_segmenter_with_low_initial_scores(network):
    assert is_segmenter(network)
    assert context_slices_of(network) == 0
    torch.manual_seed(0)
    scores = build_network(CONFIG)(torch.full((2, 1, 8, 16, 16), -800.0)).sigmoid()
    assert scores.max() < 0.1


def test_hu_outside_the_window_count_as_its_bounds(network):
    generator = torch.Generator().manual_seed(1)
    volumes_hu = 3000 * torch.randn(1, 1, 8, 16, 16, generator=generator)
    assert torch.equal(network(volumes_hu), network(volumes_hu.clamp(-1000, 1000)))


def test_padding_is_air(network):
    generator = torch.Generator().manual_seed(1)
    padded = torch.full((1, 1, 8, 16, 12), -1000.0)
    padded[..., :7, :13, :10] = 300 * torch.randn(1, 1, 7, 13, 10, generator=generator)
    alone = network(padded[..., :7, :13, :10])
    torch.testing.assert_close(alone, network(padded)[..., :7, :13, :10])


def test_folding_keeps_the_logits(network):
    generator = torch.Generator().manual_seed(1)
    volumes_hu = 300 * torch.randn(1, 1, 7, 13, 10, generator=generator)
    faster = folded(network)
    assert sum(isinstance(layer, torch.nn.BatchNorm3d) for layer in faster.modules()) < 5
    torch.testing.assert_close(faster(volumes_hu), network(volumes_hu), rtol=1e-4, atol=1e-4)


def test_a_slice_network_sees_the_slices_around_the_middle_one():
    crops = torch.arange(7.0).reshape(1, 1, 7, 1, 1).expand(2, 1, 7, 4, 4)
    assert network_input(crops, 0) is crops
    assert network_input(crops, 2)[0, :, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert network_input(crops, 3).shape == (2, 7, 4, 4)
    assert target_of(crops, 3)[0, 0, 0, 0] == 3
    assert target_of(crops, 3).shape == (2, 1, 4, 4)
    assert target_of(crops, 0) is crops
