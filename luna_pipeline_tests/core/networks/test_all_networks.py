"""Properties of every network in the registry."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from luna_pipeline.core.networks.config import NETWORKS, NetworkConfig
from luna_pipeline.core.networks.luna import build_network, head_of, unwrapped

NAMES = ("luna", "resnet", "densenet", "se_resnet", "convnext", "multiscale")
SHAPE = (16, 16, 20)
HEADS = {name: "luna_head.head_linear" if name == "luna" else "head" for name in NAMES}


def make_network(name, seed=0, **sizes):
    torch.manual_seed(seed)
    return build_network(NetworkConfig(name=name, **{"chunk_shape_irc": SHAPE, "conv_channels": 2, **sizes}))


def make_chunks(count=4, shape=SHAPE):
    return torch.randn(count, 1, *shape, generator=torch.Generator().manual_seed(1)) * 400 - 500


@pytest.mark.parametrize("name", NAMES)
def test_cutouts_become_two_finite_logits_without_an_opinion(name):
    network = make_network(name)
    logits = network(make_chunks())
    assert logits.shape == (4, 2)
    assert logits.abs().max() < 0.1
    head = head_of(network)
    assert torch.equal(head.bias, torch.zeros(2))
    assert 0 < head.weight.abs().max() < 0.01
    assert network.get_submodule(network.head_name) is head


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_cutout_stated_is_large_enough_to_learn_from(name):
    size = NetworkConfig(name=name).smallest_size
    network = make_network(name, chunk_shape_irc=(size, size, size))
    network(make_chunks(2, (size, size, size))).sum().backward()
    assert head_of(network).weight.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_gets_a_finite_gradient(name):
    network = make_network(name, dropout_rate=0.0).train()
    nn.init.normal_(head_of(network).weight)
    nn.functional.cross_entropy(network(make_chunks()), torch.tensor([0, 1, 1, 0])).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_four_cutouts_are_learned_by_heart(name):
    network = make_network(name, dropout_rate=0.0, conv_channels=4).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    chunks, labels = make_chunks(), torch.tensor([0, 1, 1, 0])
    chunks[labels == 1, :, 6:10, 6:10, 8:12] += 800
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(chunks), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_weights_follow_from_the_seed_and_only_from_it(name):
    first, again, other = (make_network(name, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first[f"{HEADS[name]}.weight"], other[f"{HEADS[name]}.weight"])


@pytest.mark.parametrize("name", NAMES)
def test_a_training_pass_with_dropout_follows_from_the_seed(name):
    network = make_network(name, dropout_rate=0.5).train()
    nn.init.normal_(head_of(network).weight)
    outcomes = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outcomes.append(copy.deepcopy(network)(make_chunks()))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


@pytest.mark.seed_defect(53, 54)
@pytest.mark.parametrize("name", NAMES)
def test_weights_fit_strictly_into_another_network_and_a_copy(name):
    network, other = make_network(name), make_network(name, seed=1)
    network.train()(make_chunks())
    other.load_state_dict(network.state_dict(), strict=True)
    chunks, copied = make_chunks(), copy.deepcopy(network)
    assert torch.equal(other.eval()(chunks), network.eval()(chunks))
    assert torch.equal(copied.eval()(chunks), network(chunks))
    assert copied.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_judges_each_cutout_by_itself_in_either_memory_format(name):
    network = make_network(name)
    with torch.no_grad():
        network.train()(make_chunks(8))
        nn.init.normal_(head_of(network.eval()).weight)
        together = network(make_chunks().contiguous(memory_format=torch.channels_last_3d))
        alone = torch.cat([network(chunk[None]) for chunk in make_chunks()])
        plain = network.to(memory_format=torch.contiguous_format)(make_chunks())
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.allclose(together, plain, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused(name):
    with pytest.raises(ValueError, match=f"options of {name} must be among: .*, got 'deepness'. Leave it out."):
        make_network(name, options=(("deepness", 3),))


@pytest.mark.parametrize(
    ("name", "option", "value", "error", "message"),
    [
        ("resnet", "blocks_per_level", "two", TypeError, "blocks_per_level must be a value of kind int, got 'two'"),
        ("resnet", "blocks_per_level", True, TypeError, "blocks_per_level must be a value of kind int, got True"),
        ("densenet", "layers_per_level", 0, ValueError, "layers_per_level must be at least 1, got 0"),
        ("convnext", "kernel_size", 4, ValueError, "kernel_size must be odd, got 4. Use 5."),
    ],
)
def test_an_option_that_cannot_be_is_refused(name, option, value, error, message):
    with pytest.raises(error, match=message):
        make_network(name, options=((option, value),))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet", {"blocks_per_level": 2}),
        ("densenet", {"layers_per_level": 2}),
        ("se_resnet", {"blocks_per_level": 2, "reduction": 2}),
        ("convnext", {"blocks_per_level": 2, "kernel_size": 3}),
    ],
)
def test_options_change_the_network_and_it_still_judges(name, options):
    network = make_network(name, options=tuple(options.items()))
    assert sum(p.numel() for p in network.parameters()) != sum(p.numel() for p in make_network(name).parameters())
    assert network(make_chunks()).isfinite().all()


def test_a_network_without_a_head_is_refused_when_it_is_built():
    @NETWORKS.register("headless")
    class _Headless(nn.Flatten):
        def __init__(self, _config):
            super().__init__()

    try:
        with pytest.raises(ValueError, match=r"head_name must name its last linear layer, of two outputs, got None"):
            build_network(NetworkConfig(name="headless"))
    finally:
        NETWORKS.forget("headless")


def test_monai_is_imported_only_where_a_network_of_it_is_built_and_sklearn_only_where_scores_are_calibrated():
    code = (
        "import sys; from luna_pipeline.core.training import building; "
        "from luna_pipeline.core.networks import monai, losses; "
        "from luna_pipeline.core.networks.luna import build_network; "
        "from luna_pipeline.core.networks.config import NetworkConfig; "
        "build_network(NetworkConfig()); sys.exit(bool({'monai', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_the_compiled_network_gives_the_same_numbers_under_the_same_names():
    # Compilation takes ten seconds a block, of which all are alike.
    network = make_network("luna", dropout_rate=0.0, n_blocks=1).train()
    compiled = torch.compile(copy.deepcopy(network))
    chunks, labels = make_chunks(), torch.tensor([0, 1, 1, 0])
    losses = [nn.functional.cross_entropy(module(chunks), labels) for module in (network, compiled)]
    for loss in losses:
        loss.backward()
    assert torch.allclose(*losses, atol=1e-5)
    inner = unwrapped(compiled)
    assert inner.state_dict().keys() == network.state_dict().keys()
    pairs = zip(network.parameters(), inner.parameters(), strict=True)
    assert all(torch.allclose(ours.grad, theirs.grad, atol=1e-4) for ours, theirs in pairs)
