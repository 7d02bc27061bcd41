"""Tries a segmentation network and its loss on a few crops; each wrong one is refused by its name."""

import torch
from torch import nn

from luna_pipeline.core.datasets.masks import MaskBatch
from luna_pipeline.core.networks.freezing import set_training_mode
from luna_pipeline.core.networks.losses import build_loss
from luna_pipeline.core.networks.luna import channels_last_of, context_slices_of
from luna_pipeline.core.networks.segmenters import network_input, target_of
from luna_pipeline.core.training.building import check_fits_model, initial_network
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.core.training.dry_run_checks import Part


def check_segmenter(config: TrainingConfig, batch: MaskBatch, device: torch.device) -> tuple[nn.Module, torch.Tensor]:
    """Return the network with the gradients of a batch, and its input.

    Args:
        config: Configuration of the run.
        batch: A few crops.
        device: The device of the run.

    Raises:
        PartError: If the network does not give finite logits of the masks' shape with a gradient, or the loss does not
            give a finite number for each crop.
        ValueError: If network, loss and model are not all of segmentation.
    """
    part = Part("network", config.network.name)
    with part.running("A network must be built from its NetworkConfig"):
        network = initial_network(config).to(device)
    check_fits_model(config, network)
    set_training_mode(network)
    slices = context_slices_of(network)
    inputs = network_input(batch.chunks_hu, slices).to(device).contiguous(memory_format=channels_last_of(network))
    masks = target_of(batch.masks, slices).to(device)
    rule = f"A segmentation network must give logits float32 {tuple(masks.shape)} for HU {tuple(inputs.shape)}"
    with part.running(rule):
        logits = network(inputs)
    part.check_tensor(rule, logits, shape=masks.shape, device=device, dtype=torch.float32)
    if not logits.requires_grad:
        raise part.error("A network must give logits with a gradient", "logits without")
    _check_loss(config, logits, masks)
    wrong = next((name for name, weight in network.named_parameters() if not _has_finite_gradient(weight)), None)
    if wrong is not None:
        raise part.error("A network must have finite gradients", f"nan or infinity for {wrong}")
    return network, inputs


def _check_loss(config: TrainingConfig, logits: torch.Tensor, masks: torch.Tensor) -> None:
    """Add the gradients of the losses."""
    part = Part("loss", config.loss.name)
    rule = f"A loss of segmentation must give losses float32 ({len(masks)},) for logits and masks {tuple(masks.shape)}"
    with part.running(rule):
        losses = build_loss(config.loss).to(logits.device)(logits, masks)
    part.check_tensor(rule, losses, shape=(len(masks),), device=logits.device, dtype=torch.float32)
    if not losses.requires_grad:
        raise part.error("A loss must give losses with a gradient", "losses without")
    with part.running("A loss must have a gradient"):
        losses.sum().backward()


def _has_finite_gradient(weight: nn.Parameter) -> bool:
    return weight.grad is None or bool(weight.grad.isfinite().all())
