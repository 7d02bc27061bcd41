import pytest
import torch
from torch import nn

from luna_pipeline.core.models.scoring import evaluating
from luna_pipeline.core.networks.config import BLOCK_NAMES, NetworkConfig
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.luna import build_network, head_of

NAMES = ("luna", "resnet", "densenet", "se_resnet", "convnext", "multiscale")
CHUNKS = torch.randn(4, 1, 16, 16, 20, generator=torch.Generator().manual_seed(1)) * 400 - 500


def make_network(name="luna", **parts):
    """A network whose norms have non-trivial statistics and weights."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name=name, chunk_shape_irc=(16, 16, 20), conv_channels=3, **parts)).train()
    with torch.no_grad():
        network(CHUNKS)
        for norm in norms_of(network):
            norm.weight.uniform_(-1.5, 1.5)
            norm.bias.normal_()
        nn.init.normal_(head_of(network).weight)
    return network


def norms_of(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm3d)]


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_the_same_up_to_rounding(name):
    network = make_network(name)
    with evaluating(network):
        logits, of_folded = network(CHUNKS), folded(network)(CHUNKS)
    assert torch.allclose(logits, of_folded, rtol=1e-4, atol=1e-4)
    assert logits.std() > 0.01


@pytest.mark.parametrize("block", BLOCK_NAMES)
def test_each_block_of_the_tutorial_gives_the_same_losses(block):
    network, labels = make_network(block=block), torch.tensor([0, 1, 1, 0])
    with evaluating(network):
        losses = [
            nn.functional.cross_entropy(module(CHUNKS), labels, reduction="none")
            for module in (network, folded(network))
        ]
    assert torch.allclose(*losses, atol=1e-4)


@pytest.mark.seed_defect(45)
@pytest.mark.parametrize("name", NAMES)
def test_the_network_itself_stays_as_it_is(name):
    network = make_network(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [part.training for part in network.modules()]
    needs_gradient = [parameter.requires_grad for parameter in network.parameters()]
    with evaluating(network):
        folded(network)(CHUNKS)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.state_dict().keys() == before.keys()
    assert [part.training for part in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == needs_gradient


@pytest.mark.parametrize(("name", "left"), [("luna", 1), ("resnet", 0), ("densenet", 16), ("se_resnet", 0)])
def test_only_norms_that_do_not_follow_a_convolution_are_left(name, left):
    network = make_network(name)
    copied = folded(network)
    called = [copied.get_submodule(node.target) for node in copied.graph.nodes if node.op == "call_module"]
    assert sum(isinstance(layer, nn.BatchNorm3d) for layer in called) == left
    assert len(norms_of(network)) > left


def test_a_folded_network_learns_nothing():
    copied = folded(make_network())
    assert not any(part.training for part in copied.modules())
    assert not any(parameter.requires_grad for parameter in copied.parameters())


def test_where_there_is_nothing_to_fold_the_network_itself_comes_back():
    for network in (make_network("convnext"), nn.Sequential(nn.Conv3d(1, 1, 1), nn.BatchNorm3d(1))):
        assert folded(network) is network


class Odd(nn.Module):
    """A convolution with two consumers, one that is called twice, and a norm before a convolution."""

    is_traceable = True

    def __init__(self):
        super().__init__()
        self.read_twice, self.called_twice, self.behind = (nn.Conv3d(1, 1, 3, padding=1) for _ in range(3))
        self.norm_a, self.norm_b, self.norm_c = (nn.BatchNorm3d(1) for _ in range(3))

    def forward(self, chunks):
        twice = self.read_twice(chunks)
        once = self.norm_b(self.called_twice(self.called_twice(self.norm_a(twice) + twice)))
        return self.behind(self.norm_c(once))


def test_a_norm_is_left_where_its_convolution_is_needed_elsewhere_too():
    torch.manual_seed(0)
    network = Odd().train()
    network(CHUNKS)
    with torch.no_grad():
        torch.testing.assert_close(folded(network)(CHUNKS), network.eval()(CHUNKS))


def test_the_network_within_a_wrapper_is_folded():
    network = make_network()
    with evaluating(network):
        torch.testing.assert_close(folded(nn.DataParallel(network))(CHUNKS), folded(network)(CHUNKS))


def test_all_norms_of_the_3d_u_net_are_folded_transposed_convolutions_too():
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name="unet3d", n_blocks=3, conv_channels=3, chunk_shape_irc=(8, 16, 16)))
    with torch.no_grad():
        network.train()(CHUNKS)
        for norm in norms_of(network):
            norm.weight.uniform_(-1.5, 1.5)
            norm.bias.normal_()
    with evaluating(network):
        copied = folded(network)
        logits, of_folded = network(CHUNKS), copied(CHUNKS)
    called = [copied.get_submodule(node.target) for node in copied.graph.nodes if node.op == "call_module"]
    assert any(isinstance(layer, nn.ConvTranspose3d) for layer in called)
    assert not any(isinstance(layer, nn.BatchNorm3d) for layer in called)
    assert torch.allclose(logits, of_folded, rtol=1e-4, atol=1e-4)


def test_norms_after_convolutions_of_slices_are_folded():
    class Slices(nn.Module):
        is_traceable = True

        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 4, 2, 2), nn.BatchNorm2d(4)
            )

        def forward(self, slices):
            return self.layers(slices)

    torch.manual_seed(0)
    network, slices = Slices().train(), torch.randn(4, 2, 9, 9)
    with torch.no_grad():
        network(slices)
        copied = folded(network)
        torch.testing.assert_close(copied(slices), network.eval()(slices))
    assert not any(
        isinstance(copied.get_submodule(node.target), nn.BatchNorm2d)
        for node in copied.graph.nodes
        if node.op == "call_module"
    )
