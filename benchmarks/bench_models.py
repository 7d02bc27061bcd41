"""Count the cost of each network and write it to docs/reference/models.md: ``python -m benchmarks.bench_models``.

Parameters, floating point operations and the memory that a step keeps depend on the network only, so they are counted,
not timed, and are the same on every machine.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from luna_pipeline.core.networks.config import BLOCK_NAMES, NETWORKS, NetworkConfig
from luna_pipeline.core.networks.luna import build_network, is_segmenter

DOCS = Path(__file__).resolve().parents[1] / "docs/reference/models.md"
BEGIN, END = "<!-- begin: python -m benchmarks.bench_models -->", "<!-- end -->"
HEAD = "| network | parameters | MFLOP forward | MFLOP forward and backward | MiB kept | smallest cutout |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Cost of a network for cutouts of the default size.

    Attributes:
        parameters: Number of learned parameters.
        forward_flop: Operations per cutout, a multiplication and an addition counted as two; convolutions and linear
        layers only, others add a few per cent.
        step_flop: The same with the backward pass.
        kept_bytes: Memory that autograd keeps for the backward pass per further cutout in the batch.
        smallest_size: Fewest voxels along an axis.
    """

    parameters: int
    forward_flop: int
    step_flop: int
    kept_bytes: int
    smallest_size: int


def configurations() -> dict[str, NetworkConfig]:
    """Return each network with its default sizes, and the first one with each of its blocks."""
    luna = {f"luna, {block}": NetworkConfig(block=block) for block in BLOCK_NAMES}  # type: ignore[arg-type]
    others = {name: NetworkConfig(name=name) for name in NETWORKS.names() if name != "luna"}
    return luna | {name: config for name, config in others.items() if not is_segmenter(build_network(config))}


def costs_of(config: NetworkConfig) -> Costs:
    """Count the cost of a network."""
    network = build_network(config).train()
    forward, step = flop_of(network, config.chunk_shape_irc)
    two, four = (kept_bytes(network, num_cutouts, config.chunk_shape_irc) for num_cutouts in (2, 4))
    return Costs(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        forward_flop=forward,
        step_flop=step,
        kept_bytes=(four - two) // 2,
        smallest_size=config.smallest_size,
    )


def flop_of(network: nn.Module, shape_irc: tuple[int, int, int]) -> tuple[int, int]:
    """Count the operations of a forward pass, and of a forward and a backward pass, per cutout."""
    chunks_hu = torch.zeros(2, 1, *shape_irc)
    by_operator = {torch.ops.aten.convolution_backward: _convolution_backward_flop}
    with FlopCounterMode(display=False, custom_mapping=by_operator) as forward:
        logits = network(chunks_hu)
    with FlopCounterMode(display=False, custom_mapping=by_operator) as backward:
        logits.sum().backward()
    forward_flop = forward.get_total_flops() // 2
    return forward_flop, forward_flop + backward.get_total_flops() // 2


def kept_bytes(network: nn.Module, num_cutouts: int, shape_irc: tuple[int, int, int]) -> int:
    """Count the bytes that autograd keeps between the passes, each allocation once, without weights."""
    weights = {tensor.untyped_storage()._cdata for tensor in network.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # References are kept, so that no memory is allocated twice.
        logits = network(torch.zeros(num_cutouts, 1, *shape_irc).contiguous(memory_format=torch.channels_last_3d))
    del logits
    return sum(size for storage, size in kept.items() if storage not in weights)


def rows() -> Iterator[str]:
    """Return the lines of the table."""
    yield HEAD
    yield "|---|---:|---:|---:|---:|---|"
    for name, config in configurations().items():
        costs = costs_of(config)
        yield (
            f"| {name} | {costs.parameters:,} | {costs.forward_flop / 1e6:,.0f} | {costs.step_flop / 1e6:,.0f} "
            f"| {costs.kept_bytes / 2**20:.1f} | {costs.smallest_size} along each axis |"
        )


def with_table(text: str, table: Sequence[str]) -> str:
    """Return a page with the table between its two marks.

    Raises:
        ValueError: If the page has no such marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        msg = f"docs/reference/models.md must have the marks {BEGIN!r} and {END!r}, got a page without. Put them back."
        raise ValueError(msg)
    return "\n".join([f"{before}{begin}", *table, f"{end}{after}"])


def main() -> None:
    """Write the table into the page."""
    page = with_table(DOCS.read_text(), list(rows()))
    DOCS.write_text(page)
    sys.stdout.write(f"{DOCS.name} written\n")


def _convolution_backward_flop(
    grad_out_shape: Any,
    x_shape: Any,
    w_shape: Any,
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    output_mask: Any,
    **_kwargs: Any,
) -> int:
    """Count the backward pass: each gradient costs as much as the forward pass. torch's count ignores groups."""
    once = conv_flop_count(list(x_shape), list(w_shape), list(grad_out_shape), transposed=transposed)
    return once * (int(output_mask[0]) + int(output_mask[1]))


if __name__ == "__main__":
    main()
