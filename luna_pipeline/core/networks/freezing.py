"""Fine-tuning: freezes parts of a network, including their running statistics."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from luna_pipeline.core.networks.config import Frozen
from luna_pipeline.core.networks.luna import head_of, is_segmenter, unwrapped
from luna_pipeline.core.networks.parts import init_head


def freeze(network: nn.Module, what: Frozen) -> None:
    """Freeze a part of a network; ``set_training_mode`` leaves it in evaluation mode.

    Args:
        network: The network; copies of it are frozen as well.
        what: ``nothing``; ``batch_norm``: running statistics are fixed, scale and shift are trained with the rest;
            ``backbone``: everything but the head is fixed, with its dropout off.

    Raises:
        ValueError: If ``what`` is another word, or the network has no head.
    """
    if what not in ("nothing", "batch_norm", "backbone"):
        msg = f"Frozen must be nothing, batch_norm or backbone, got {what!r}. Choose one of them."
        raise ValueError(msg)
    network = unwrapped(network)
    network.requires_grad_(what != "backbone")
    if what == "backbone" or not is_segmenter(network):
        head_of(network).requires_grad_(True)
    # A plain attribute is copied with the network, but is not part of its state.
    network._frozen = what  # type: ignore[assignment]


def set_training_mode(network: nn.Module) -> None:
    """Put a network into training mode, apart from what is frozen.

    In training mode the batch norms of a frozen part would update their statistics, and its dropout would be active.
    """
    network.train()
    inner = unwrapped(network)
    frozen = getattr(inner, "_frozen", "nothing")
    if frozen == "backbone":
        # Only the children: ``network.training`` must stay True.
        for part in inner.children():
            part.eval()
        head_of(inner).train()
    elif frozen == "batch_norm":
        for layer in inner.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()


def new_head(network: nn.Module) -> None:
    """Re-initialise the head for a new task (initial scores near 0.5)."""
    init_head(head_of(network))
