import math

import pytest
import torch
from torch import nn

from luna_pipeline.core.networks.config import BLOCK_NAMES, NetworkConfig
from luna_pipeline.core.networks.luna import LunaBlock, build_network, scores_of, unwrapped

SMALL = {"n_blocks": 2, "conv_channels": 3, "chunk_shape_irc": (8, 12, 16)}


def modules_of(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("block", BLOCK_NAMES)
def test_cutouts_come_out_as_two_finite_logits(block):
    logits = build_network(NetworkConfig(block=block, **SMALL))(torch.randn(5, 1, 8, 12, 16) * 500 - 500)
    assert logits.shape == (5, 2)
    assert logits.isfinite().all()


@pytest.mark.seed_defect(59, 62)
@pytest.mark.parametrize(
    ("n_blocks", "shape_irc", "in_features"),
    [(4, (32, 48, 48), 64 * 2 * 3 * 3), (3, (32, 48, 48), 32 * 4 * 6 * 6), (2, (9, 7, 5), 16 * 2 * 1 * 1)],
)
def test_head_size_follows_from_blocks_and_cutouts(n_blocks, shape_irc, in_features):
    network = build_network(NetworkConfig(n_blocks=n_blocks, chunk_shape_irc=shape_irc))
    assert network.luna_head.head_linear.in_features == in_features
    assert network(torch.zeros(2, 1, *shape_irc)).shape == (2, 2)


def test_channels_double_from_block_to_block():
    network = build_network(NetworkConfig())
    assert [block.conv1.in_channels for block in network.luna_blocks] == [1, 8, 16, 32]
    assert [block.conv2.out_channels for block in network.luna_blocks] == [8, 16, 32, 64]


@pytest.mark.seed_defect(60, 61)
@pytest.mark.parametrize("block", BLOCK_NAMES)
def test_every_convolution_has_a_bias_or_a_norm_behind_it(block):
    network = build_network(NetworkConfig(block=block, **SMALL))
    has_norm = block in ("batch_norm", "dropout", "dropout3d")
    assert len(modules_of(network, nn.Conv3d)) == 4
    assert all((convolution.bias is None) == has_norm for convolution in modules_of(network, nn.Conv3d))
    assert len(modules_of(network, nn.BatchNorm3d)) == 1 + 4 * has_norm


@pytest.mark.seed_defect(61)
@pytest.mark.parametrize(
    ("block", "kind"), [("dropout", nn.Dropout), ("dropout_only", nn.Dropout), ("dropout3d", nn.Dropout3d)]
)
def test_dropout_is_of_the_kind_and_rate_asked_for(block, kind):
    network = build_network(NetworkConfig(block=block, dropout_rate=0.3, **SMALL))
    assert [(type(layer), layer.p) for layer in modules_of(network, (nn.Dropout, nn.Dropout3d))] == [(kind, 0.3)] * 4


def test_blocks_without_dropout_have_none():
    for block in ("biased", "batch_norm"):
        assert not modules_of(build_network(NetworkConfig(block=block, **SMALL)), (nn.Dropout, nn.Dropout3d))


@pytest.mark.parametrize("kind", BLOCK_NAMES)
def test_a_block_computes_what_its_layers_in_the_order_of_the_tutorial_do(kind):
    torch.manual_seed(0)
    block = LunaBlock(kind, 2, 5, dropout_rate=0.4)
    features = torch.randn(3, 2, 4, 6, 8)
    layers = [block.conv1, block.bn1, nn.ReLU(), block.dropout1, block.conv2, block.bn2, nn.ReLU(), block.dropout2]
    torch.manual_seed(1)
    expected = nn.MaxPool3d(2)(nn.Sequential(*layers)(features))
    torch.manual_seed(1)
    assert torch.equal(block(features), expected)


@pytest.mark.seed_defect("e")
def test_first_weights_are_kaiming_normal_and_biases_0():
    torch.manual_seed(0)
    network = build_network(NetworkConfig(block="biased"))
    convolution = network.luna_blocks[3].conv2
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 27)), rel=0.02)
    assert abs(convolution.weight.mean().item()) < 1e-3
    biases = [layer.bias for layer in modules_of(network, (nn.Conv3d, nn.Linear))]
    assert all(torch.equal(bias, torch.zeros_like(bias)) for bias in biases)


def test_parts_are_named_as_in_the_tutorial():
    names = set(build_network(NetworkConfig(block="dropout3d", **SMALL)).state_dict())
    assert {
        "tail_batchnorm.running_mean",
        "luna_blocks.0.conv1.weight",
        "luna_blocks.1.bn2.bias",
        "luna_head.head_linear.weight",
        "luna_head.head_linear.bias",
    } < names
    biased = build_network(NetworkConfig(block="biased", **SMALL)).state_dict()
    assert "luna_blocks.1.conv2.bias" in biased
    assert len(biased) == 5 + 2 * 4 + 2


def test_the_head_reads_features_in_the_order_of_their_axes_whatever_the_memory_format():
    torch.manual_seed(0)
    network = build_network(NetworkConfig(**SMALL)).eval()
    chunks_hu = torch.randn(2, 1, 8, 12, 16) * 500
    plain = network.to(memory_format=torch.contiguous_format)(chunks_hu)
    last = network.to(memory_format=torch.channels_last_3d)(chunks_hu.to(memory_format=torch.channels_last_3d))
    assert torch.allclose(plain, last, atol=1e-5)


@pytest.mark.seed_defect(20)
def test_score_is_the_probability_of_class_1():
    logits = torch.tensor([[0.0, math.log(3)], [5.0, -5.0]])
    assert scores_of(logits).tolist() == pytest.approx([0.75, 1 / (1 + math.exp(10))])


@pytest.mark.seed_defect(54)
def test_names_of_weights_bear_no_wrapper():
    network = build_network(NetworkConfig(**SMALL))
    assert unwrapped(nn.DataParallel(nn.DataParallel(network))) is network
    assert unwrapped(network) is network
