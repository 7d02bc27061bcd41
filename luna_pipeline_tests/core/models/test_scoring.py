import pytest
import torch
from torch import nn

from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.models.finite import NonFiniteError
from luna_pipeline.core.models.scoring import evaluating, logits_of, predict
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.freezing import freeze, set_training_mode
from luna_pipeline.core.networks.luna import build_network

CONFIG = NetworkConfig(n_blocks=2, conv_channels=2, dropout_rate=0.5, chunk_shape_irc=(4, 4, 4))


def make_batches(sizes):
    generator = torch.Generator().manual_seed(0)
    chunks = torch.randn(sum(sizes), 1, 4, 4, 4, generator=generator).split(sizes)
    ids = (torch.arange(sum(sizes)) * -7).split(sizes)
    none = [torch.zeros(size, dtype=torch.int64) for size in sizes]
    return [CutoutBatch(*parts) for parts in zip(chunks, none, ids, none, none, sizes, strict=True)]


def make_network():
    torch.manual_seed(0)
    return build_network(CONFIG)


def test_every_cutout_is_scored_in_order_and_alike_in_whatever_batches():
    ids, scores = predict(make_network(), make_batches([20]))
    other_ids, other_scores = predict(make_network(), make_batches([3, 1, 16]))
    assert ids.tolist() == other_ids.tolist() == (torch.arange(20) * -7).tolist()
    assert scores.tolist() == pytest.approx(other_scores.tolist(), abs=1e-6)
    assert len(set(scores.tolist())) == 20


@pytest.mark.seed_defect(45)
@pytest.mark.parametrize("is_training", [True, False])
def test_scoring_moves_nothing_in_the_network(is_training):
    network = make_network().train(is_training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = (predict(network, make_batches([9]))[1] for _ in range(2))
    assert first.tolist() == second.tolist()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training == is_training for module in network.modules())


def test_nothing_to_score_gives_nothing():
    ids, scores = predict(make_network(), [])
    assert (len(ids), len(scores)) == (0, 0)


def test_the_mode_comes_back_after_a_failure_too():
    network = make_network().train()
    modes = []

    def fail():
        with evaluating(network):
            modes.append((network.training, torch.is_grad_enabled()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert modes == [(False, False)]
    assert network.training
    assert torch.is_grad_enabled()


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, chunks_hu):
        self.sizes.append(len(chunks_hu))
        return chunks_hu.flatten(1)[:, :2]


@pytest.mark.parametrize(("count", "sizes"), [(20, [20]), (2, [2]), (1, [2]), (0, [0])])
def test_a_batch_is_computed_at_once_and_never_one_cutout_alone(count, sizes):
    recorder, chunks = Recorder(), torch.arange(2.0 * count).view(count, 1, 1, 1, 2)
    assert torch.equal(logits_of(recorder, chunks), chunks.flatten(1))
    assert recorder.sizes == sizes


@pytest.mark.seed_defect(45, 59)
def test_each_part_comes_back_into_its_own_mode():
    network = make_network()
    freeze(network, "backbone")
    set_training_mode(network)
    before = [part.training for part in network.modules()]
    with evaluating(network):
        assert not any(part.training for part in network.modules())
    assert [part.training for part in network.modules()] == before
    assert len(set(before)) == 2


def test_scores_are_the_softmax_of_what_the_network_says():
    network, (batch,) = make_network().eval(), make_batches([7])
    with torch.no_grad():
        expected = network(batch.chunks_hu).softmax(dim=1)[:, 1]
    assert predict(network, [batch])[1].tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_scores_of_nan_weights_are_refused_with_the_candidate():
    network = make_network()
    network.luna_head.head_linear.bias.data[0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"got nan for 9 of 9 candidates \(the first has candidate_id 0\)"):
        predict(network, make_batches([9]))
