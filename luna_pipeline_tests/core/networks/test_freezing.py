import copy

import pytest
import torch
from torch import nn

from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.freezing import freeze, new_head, set_training_mode
from luna_pipeline.core.networks.luna import build_network

NAMES = ("luna", "resnet", "densenet", "se_resnet", "convnext", "multiscale")


def make_network(name="luna", **sizes):
    torch.manual_seed(0)
    config = NetworkConfig(name=name, chunk_shape_irc=(16, 16, 16), conv_channels=2, dropout_rate=0.5, **sizes)
    return build_network(config)


def train(network, steps=4):
    """Train some steps; return the names of the changed values."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)
    torch.manual_seed(2)
    for _ in range(steps):
        set_training_mode(network)
        chunks = torch.randn(6, 1, 16, 16, 16) * 400 - 300
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(chunks), torch.tensor([0, 1] * 3)).backward()
        optimizer.step()
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def names_of(network, kind, parts):
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, kind)}
    return {f"{name}.{part}" for name in layers for part in parts}


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.seed_defect(59)
@pytest.mark.parametrize("name", NAMES)
def test_of_a_frozen_backbone_every_tensor_stays_to_the_bit_and_the_head_learns(name):
    network = make_network(name)
    train(network)
    freeze(network, "backbone")
    assert train(network) == {f"{network.head_name}.weight", f"{network.head_name}.bias"}


@pytest.mark.seed_defect(59)
@pytest.mark.parametrize("name", NAMES)
def test_frozen_statistics_stay_to_the_bit_and_all_else_learns(name):
    network = make_network(name)
    train(network)
    freeze(network, "batch_norm")
    moved = train(network)
    assert moved == set(network.state_dict()) - names_of(network, nn.BatchNorm3d, STATISTICS)
    assert name == "convnext" or names_of(network, nn.BatchNorm3d, ("weight", "bias")) <= moved


@pytest.mark.seed_defect(59)
@pytest.mark.parametrize("n_blocks", [2, 3, 4])
def test_the_head_fits_and_learns_whatever_the_number_of_blocks(n_blocks):
    network = make_network(n_blocks=n_blocks)
    freeze(network, "backbone")
    assert train(network) == {"luna_head.head_linear.weight", "luna_head.head_linear.bias"}


def test_what_is_thawed_learns_again():
    network = make_network()
    freeze(network, "backbone")
    freeze(network, "nothing")
    assert train(network) == set(network.state_dict())


@pytest.mark.seed_defect(59)
@pytest.mark.parametrize("name", NAMES)
def test_dropout_of_a_frozen_backbone_does_not_act(name):
    network = make_network(name)
    chunks = torch.randn(4, 1, 16, 16, 16) * 400
    freeze(network, "backbone")
    set_training_mode(network)
    assert network.training
    assert torch.equal(network(chunks), network(chunks))


def test_dropout_acts_where_only_statistics_are_frozen():
    network, chunks = make_network(), torch.randn(4, 1, 16, 16, 16) * 400
    freeze(network, "batch_norm")
    set_training_mode(network)
    assert not torch.equal(network(chunks), network(chunks))


def test_a_copy_is_frozen_alike_and_weights_keep_their_names():
    network = make_network()
    names = list(network.state_dict())
    freeze(network, "backbone")
    assert list(network.state_dict()) == names
    assert train(copy.deepcopy(network)) == {"luna_head.head_linear.weight", "luna_head.head_linear.bias"}


def test_a_wrapped_network_is_frozen_as_the_network_itself():
    network = make_network()
    wrapped = nn.DataParallel(network)
    freeze(wrapped, "backbone")
    set_training_mode(wrapped)
    assert wrapped.training
    assert not network.tail_batchnorm.training
    assert [name for name, p in network.named_parameters() if p.requires_grad] == [
        "luna_head.head_linear.weight",
        "luna_head.head_linear.bias",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_new_head_has_no_opinion_and_touches_nothing_else(name):
    network = make_network(name)
    train(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    new_head(network)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {f"{network.head_name}.weight", f"{network.head_name}.bias"}
    assert network.get_submodule(network.head_name).weight.abs().max() < 0.01


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="Frozen must be nothing, batch_norm or backbone, got 'head'"):
        freeze(make_network(), "head")


def test_a_network_without_a_head_is_refused():
    with pytest.raises(ValueError, match=r"head_name must name its last linear layer, of two outputs, got None \(Seq"):
        new_head(nn.Sequential(nn.Linear(2, 2)))
