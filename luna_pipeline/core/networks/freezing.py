"""Fine-tuning: freezes parts of a network, including their running statistics."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from luna_pipeline.core.networks.config import Frozen
from luna_pipeline.core.networks.luna import head_of, unwrapped
from luna_pipeline.core.networks.parts import init_head


def freeze(network: nn.Module, what: Frozen) -> None:
    """Freeze a part of a network; ``set_training_mode`` leaves it in evaluation mode.

    Args:
        network: The network; a copy of it is frozen alike.
        what: ``nothing``; ``batch_norm``: running statistics stay, their scale and shift learn with all the rest;
            ``backbone``: everything but the head stays, its dropout does not act.

    Raises:
        ValueError: If ``what`` is another word, or the network has no head.
    """
    if what not in ("nothing", "batch_norm", "backbone"):
        msg = f"Frozen must be nothing, batch_norm or backbone, got {what!r}. Choose one of them."
        raise ValueError(msg)
    network = unwrapped(network)
    network.requires_grad_(what != "backbone")
    head_of(network).requires_grad_(True)
    # A plain attribute: it is copied with the network and is no part of its weights.
    network._frozen = what  # type: ignore[assignment]


def set_training_mode(network: nn.Module) -> None:
    """Put a network into training mode, apart from what is frozen.

    A frozen part must not only be left out by the optimizer: in training mode its batch norms would still update their
        statistics, and its dropout would be active.
    """
    network.train()
    inner = unwrapped(network)
    frozen = getattr(inner, "_frozen", "nothing")
    if frozen == "backbone":
        # The parts, not the network: ``network.training`` must stay True.
        for part in inner.children():
            part.eval()
        head_of(inner).train()
    elif frozen == "batch_norm":
        for layer in inner.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()


def new_head(network: nn.Module) -> None:
    """Re-initialise the head (initial scores near 0.5): for another question than the one it was trained for.

    Raises:
        ValueError: If the network has no head.
    """
    init_head(head_of(network))
