"""Norms of slices fold into the convolutions after them, at the border too."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.luna import build_network


def with_statistics(network: nn.Module, slices: torch.Tensor) -> nn.Module:
    """A network in evaluation mode whose norms have non-trivial statistics and weights, also negative ones."""
    with torch.no_grad():
        network.train()(slices)
        for norm in (layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)):
            norm.weight.uniform_(-1.5, 1.5)
            norm.bias.normal_()
    return network.eval()


def norms_called(network: nn.Module) -> int:
    called = [network.get_submodule(str(node.target)) for node in network.graph.nodes if node.op == "call_module"]
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in called)


@pytest.mark.parametrize("size", [(16, 24), (4, 4)])
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_the_books_network_gives_the_same_logits_with_only_the_norms_before_transposed_convolutions(size, n_blocks):
    torch.manual_seed(0)
    config = NetworkConfig(name="book_unet", n_blocks=n_blocks, conv_channels=4, chunk_shape_irc=(7, 16, 16))
    network = with_statistics(build_network(config), torch.randn(4, 7, 16, 16) * 400 - 500)
    slices, copied = torch.randn(2, 7, *size) * 600 - 500, folded(network)
    with torch.no_grad():
        expected = network(slices)
        torch.testing.assert_close(copied(slices), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01
    assert norms_called(copied) == n_blocks - 1
    assert len(list(network.named_buffers())) == len(
        [name for name in network.state_dict() if "running" in name or "num" in name]
    )


class Odd(nn.Module):
    """A norm that is added to something, one whose convolution is called twice, and convolutions of other kinds."""

    is_traceable = True

    def __init__(self) -> None:
        super().__init__()
        self.added, self.twice, self.reflected, self.strided, self.single = (nn.BatchNorm2d(2) for _ in range(5))
        self.shared = nn.Conv2d(2, 2, 3, padding=1)
        self.mirror = nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")
        self.coarse = nn.Conv2d(2, 2, 3, stride=2, padding=1)
        self.point = nn.Conv2d(2, 1, 1, bias=False)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        features = self.added(slices) + slices
        features = self.shared(functional.relu(self.shared(self.twice(features))))
        features = self.mirror(self.reflected(functional.relu(features)))
        features = self.coarse(self.strided(functional.relu(features)))
        return self.point(self.single(functional.relu(features)))


def test_a_norm_is_left_where_it_cannot_be_folded():
    torch.manual_seed(0)
    network = with_statistics(Odd(), torch.randn(4, 2, 8, 8))
    copied, slices = folded(network), torch.randn(3, 2, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(copied(slices), network(slices))
    assert norms_called(copied) == 4
