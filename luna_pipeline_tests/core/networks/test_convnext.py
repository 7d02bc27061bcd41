import pytest
import torch

from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.convnext import ChannelNorm, ConvNextBlock
from luna_pipeline.core.networks.luna import build_network


def test_the_norm_is_over_the_channels_of_each_voxel():
    features = torch.randn(2, 6, 3, 4, 5) * 7 + 3
    normed = ChannelNorm(6)(features)
    assert torch.allclose(normed.mean(dim=1), torch.zeros(2, 3, 4, 5), atol=1e-5)
    assert torch.allclose(normed.var(dim=1, unbiased=False), torch.ones(2, 3, 4, 5), atol=1e-3)


def test_a_block_is_what_the_paper_writes():
    torch.manual_seed(0)
    block = ConvNextBlock(4, kernel_size=3, dropout_rate=0.0).eval()
    features = torch.randn(2, 4, 3, 3, 3)
    seen = torch.nn.functional.conv3d(features, block.depthwise.weight, block.depthwise.bias, padding=1, groups=4)
    normed = (seen - seen.mean(1, keepdim=True)) / (seen.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    wide = torch.nn.functional.gelu(
        torch.einsum("oc,ncijk->noijk", block.widen.weight, normed) + block.widen.bias.view(1, -1, 1, 1, 1)
    )
    narrow = torch.einsum("oc,ncijk->noijk", block.narrow.weight, wide) + block.narrow.bias.view(1, -1, 1, 1, 1)
    assert torch.allclose(block(features), features + 0.01 * narrow, atol=1e-5)


def test_dropout_drops_the_whole_branch_of_a_cutout_or_doubles_it():
    torch.manual_seed(0)
    block = ConvNextBlock(4, kernel_size=3, dropout_rate=0.5).train()
    features = torch.randn(1, 4, 3, 3, 3).expand(40, -1, -1, -1, -1)
    branch = block.eval()(features)[0] - features[0]
    added = block.train()(features) - features
    is_dropped = [torch.equal(part, torch.zeros_like(part)) for part in added]
    assert 8 < sum(is_dropped) < 32
    kept = [part for part, dropped in zip(added, is_dropped, strict=True) if not dropped]
    assert all(torch.allclose(part, 2 * branch, atol=1e-5) for part in kept)


def test_later_blocks_drop_more_up_to_the_rate_asked_for():
    network = build_network(NetworkConfig(name="convnext", dropout_rate=0.4, conv_channels=1))
    rates = [block.dropout.p for block in network.modules() if isinstance(block, ConvNextBlock)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])
