import pytest
from torch import nn

from benchmarks.bench_models import DOCS, HEAD, configurations, costs_of, flop_of, kept_bytes, rows, with_table
from luna_pipeline.core.networks.config import LOSSES, NETWORKS


def table_of(text):
    lines = text.splitlines()
    first = lines.index(HEAD)
    return lines[first : first + 2 + len(configurations())]


def test_the_page_says_what_is_counted_now():
    assert table_of(DOCS.read_text()) == list(rows())


def test_the_page_names_every_network_and_loss():
    text = DOCS.read_text()
    # Other tests may have registered parts of their own in this process.
    names = [name for parts in (NETWORKS, LOSSES) for name in parts.names() if not parts.is_own(name)]
    assert len(names) >= 10
    assert all(f"| `{name}` |" in text for name in names)


def test_operations_of_a_convolution_are_those_of_paper():
    # 4 x 4 x 4 voxels, 27 taps, 2 channels in, 6 out; the backward pass has a gradient for weights only.
    forward = 64 * 27 * 2 * 6 * 2
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Conv3d(2, 6, 3, padding=1))
    first = 64 * 2 * 2
    assert flop_of(network, (4, 4, 4)) == (first + forward, 2 * first + 3 * forward)


def test_a_depthwise_convolution_costs_no_more_backward_than_a_pass_for_each_gradient():
    forward = 64 * 27 * 8 * 2
    first = 64 * 8 * 2
    network = nn.Sequential(nn.Conv3d(1, 8, 1), nn.Conv3d(8, 8, 3, padding=1, groups=8))
    assert flop_of(network, (4, 4, 4)) == (first + forward, 2 * first + 3 * forward)


def test_kept_memory_is_each_input_of_what_learns_once():
    # The convolution keeps its input, the ReLU its output: 64 voxels of 1 and of 3 channels, 4 bytes each.
    network = nn.Sequential(nn.Conv3d(1, 3, 1), nn.ReLU())
    assert kept_bytes(network, 2, (4, 4, 4)) == 2 * 64 * 4 * (1 + 3)


def test_the_default_network_costs_what_performance_was_measured_with():
    costs = costs_of(configurations()["luna, dropout3d"])
    assert round(costs.forward_flop / 1e6) == 621
    assert costs.parameters == sum(
        27 * i * o + 2 * o for i, o in [(1, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    ) + 2 + 2 * (1152 + 1)


def test_a_table_stands_between_its_marks_and_is_refused_without():
    text = DOCS.read_text()
    assert with_table(text, table_of(text)) == text
    with pytest.raises(ValueError, match=r"must have the marks .*, got a page without\. Put them back\."):
        with_table("no marks", [])
