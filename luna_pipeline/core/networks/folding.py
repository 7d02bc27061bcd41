"""A network for evaluation only: the same numbers up to rounding, with fewer passes over the features.

Measured gain: evaluation takes 11 % less time (0.258 s instead of 0.289 s for 32 cutouts, medians of five interleaved
runs, one thread).

In evaluation a batch norm is a factor and a shift for each channel. Behind a convolution both go into its weights.
In front of one they cannot: zeros are put around what the norm gives, not around what it gets.
"""

import copy
from typing import cast

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from luna_pipeline.core.networks.luna import unwrapped


def folded(module: nn.Module) -> nn.Module:
    """Return a network for evaluation, with each batch norm that follows a convolution taken into it.

    Args:
        module: A network with the attribute ``is_traceable``; any other is returned as it is. It is never changed.

    Returns:
        A copy in evaluation mode that learns nothing; ``module`` itself where there is nothing to gain.
    """
    network = unwrapped(module)
    has_norm = any(isinstance(layer, nn.BatchNorm3d) for layer in network.modules())
    if not (has_norm and getattr(network, "is_traceable", False)):
        return module
    network = copy.deepcopy(network).eval().requires_grad_(False)
    traced = fx.GraphModule(network, _Tracer().trace(network))
    for convolution, norm in _pairs(traced):
        fused = fuse_conv_bn_eval(
            cast(nn.Conv3d, _layer(traced, convolution)), cast(nn.BatchNorm3d, _layer(traced, norm))
        )
        traced.set_submodule(str(convolution.target), fused)
        norm.replace_all_uses_with(convolution)
        traced.graph.erase_node(norm)
    traced.recompile()
    return traced.eval()


class _Tracer(fx.Tracer):
    """Treats each batch norm as one step, whatever its class."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is one operation."""
        return isinstance(m, nn.BatchNorm3d) or super().is_leaf_module(m, module_qualified_name)


def _pairs(traced: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """Calls of a convolution whose result goes into a batch norm and nowhere else; both are called once."""
    calls = [node for node in traced.graph.nodes if node.op == "call_module"]
    targets = [node.target for node in calls]
    pairs = []
    for norm in calls:
        before = norm.args[0]
        if (
            isinstance(_layer(traced, norm), nn.BatchNorm3d)
            and isinstance(before, fx.Node)
            and before in calls
            and isinstance(_layer(traced, before), nn.Conv3d)
            and len(before.users) == 1
            and targets.count(norm.target) == targets.count(before.target) == 1
        ):
            pairs.append((before, norm))
    return pairs


def _layer(traced: fx.GraphModule, call: fx.Node) -> nn.Module:
    return traced.get_submodule(str(call.target))
