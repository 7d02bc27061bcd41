"""Maps of activation: bright where the features are that raise the score, and nowhere else."""

import numpy as np
import pytest
import torch
from torch import nn

from luna_pipeline.core.networks.activation import activation_map
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network


class BrightIsNodule(nn.Module):
    """Class 1 by the mean of what is above 0 HU, class 0 by the mean of what is below."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 2, kernel_size=1, bias=False)
        self.convolution.weight = nn.Parameter(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1, 1))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, chunks_hu):
        return self.relu(self.convolution(chunks_hu)).mean(dim=(2, 3, 4))


def test_the_map_is_bright_where_the_features_of_class_1_are():
    chunks = torch.full((2, 1, 4, 6, 8), -1000.0)
    chunks[0, 0, 2, 3, 5] = 200.0
    network = BrightIsNodule()
    maps = activation_map(network, network.relu, chunks)
    expected = np.zeros((2, 4, 6, 8), dtype=np.float32)
    expected[0, 2, 3, 5] = 1.0
    np.testing.assert_array_equal(maps, expected)


def test_a_block_of_the_projects_network_is_drawn_at_the_size_of_the_cutout_and_stays_as_it_is():
    network = build_network(NetworkConfig(n_blocks=2, conv_channels=2, chunk_shape_irc=(8, 8, 8), block="batch_norm"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    maps = activation_map(network, network.luna_blocks[0], torch.randn(3, 1, 8, 8, 8) * 500)
    assert maps.shape == (3, 8, 8, 8)
    assert 0 <= maps.min() <= maps.max() <= 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("layer", ["luna_head", "elsewhere"])
def test_a_layer_without_features_of_volumes_is_refused(layer):
    network = build_network(NetworkConfig(n_blocks=2, conv_channels=2, chunk_shape_irc=(8, 8, 8), block="batch_norm"))
    chosen = nn.Conv3d(1, 1, 1) if layer == "elsewhere" else network.luna_head
    with pytest.raises(ValueError, match="must return features"):
        activation_map(network, chosen, torch.zeros(1, 1, 8, 8, 8))
