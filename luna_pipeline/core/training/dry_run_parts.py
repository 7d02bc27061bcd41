"""Tries a network, a loss, an optimizer and a schedule on a few samples; each wrong one is refused by its name.

Shapes: N samples, D, H, W voxels along index, row, col.
"""

import copy
import itertools
import math
import time
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from luna_pipeline.core.models.optimizer_step import Moment, Schedule
from luna_pipeline.core.models.scoring import evaluating
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.freezing import set_training_mode
from luna_pipeline.core.networks.losses import build_loss
from luna_pipeline.core.training.building import initial_network
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.core.training.dry_run_checks import Part, are_equal, described
from luna_pipeline.core.training.optimizers import build_optimizer
from luna_pipeline.core.training.randomness import fork_rng
from luna_pipeline.core.training.schedulers import build_schedule

# Logits differ by batch size in their last digits, on GPUs with TF32 in the third.
_TOLERANCE = 0.02
_LOGITS = ((0.0, 0.0), (1.0, -1.0), (-2.0, 2.0), (0.5, 0.5), (3.0, -1.0))
_LABELS = (0, 1, 1, 0, 1)
_SECONDS_OF_SCHEDULE = 0.2
_MOMENTS_BEFORE_SAVING = 100


def check_network(
    config: TrainingConfig, chunks_hu: torch.Tensor, labels: torch.Tensor, *, needs_all_gradients: bool = False
) -> nn.Module:
    """Return the network with the gradients of a batch.

    Args:
        config: Configuration of the run.
        chunks_hu: HU, float32 (N, 1, D, H, W), on the device of the run.
        labels: int64 (N,).
        needs_all_gradients: Whether each weight must have a gradient, as processes that train together need.

    Raises:
        PartError: If the network does not give finite logits float32 (N, 2), with a gradient and for each cutout on
            its own.
    """
    part = Part("network", config.network.name)
    with part.running("A network must be built from its NetworkConfig"):
        network = initial_network(config).to(chunks_hu.device)
    set_training_mode(network)
    names = set(network.state_dict())
    logits = _logits(part, network, chunks_hu)
    for name, value in network.state_dict().items():
        if name not in names or not isinstance(value, torch.Tensor):
            got = f"{type(value).__name__} {name}" + (" after a batch" if name not in names else "")
            raise part.error("A network must have all its weights and buffers, as tensors, from the start", got)
    if not logits.requires_grad:
        raise part.error("A network must give logits with a gradient", "logits without")
    if bool((logits >= 0).all()) and bool((logits.sum(1) - 1).abs().max() < 1e-5):
        raise part.error("A network must give logits, which the loss turns into probabilities", "probabilities")
    with part.running("A network must have gradients"):
        nn.functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
    _check_gradients(part, network, needs_all=needs_all_gradients)
    _check_evaluation(part, network, chunks_hu)
    return network


def check_loss(config: TrainingConfig, device: torch.device) -> None:
    """Try the loss on batches of both classes, of one class and of one sample.

    Raises:
        PartError: If it does not give finite losses float32 (N,) with a finite gradient.
    """
    part = Part("loss", config.loss.name)
    with part.running("A loss must be built from its LossConfig"):
        loss = build_loss(config.loss).to(device)
        has_weights = any(weight.requires_grad for weight in loss.parameters())
    if has_weights:
        raise part.error("A loss must have no weights that learn, which no optimizer has", "some")
    state = copy.deepcopy(loss.state_dict())
    logits, labels = torch.tensor(_LOGITS, device=device), torch.tensor(_LABELS, device=device)
    for rows in (slice(None), labels == 0, labels == 1, slice(1)):
        _check_losses(part, loss, logits[rows], labels[rows])
    if not are_equal(state, loss.state_dict()):
        raise part.error("A loss must not change its state, which no checkpoint has", "other values after a batch")


def check_optimizer(config: TrainingConfig, network: nn.Module) -> None:
    """Let an optimizer make a step with the gradients of a network, and save and restore it.

    Raises:
        PartError: If it does not update exactly the trainable weights by ``step()``, or cannot be restored.
    """
    part = Part("optimizer", config.optimizer.name)
    optimizer = _optimizer(part, config, network)
    trainable = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    known = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    if set(known) != trainable:
        got = f"{len(trainable & set(known))} of them and {len(set(known) - trainable)} others"
        raise part.error(f"An optimizer must have the {len(trainable)} weights that it is given", got)
    _check_rates(part, optimizer)
    _step(part, optimizer)
    for name, parameter in network.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise part.error("An optimizer must leave finite weights", f"nan or infinity in {name} after a step")
    state = part.stored(optimizer.state_dict(), "optimizer")
    other = copy.deepcopy(network)
    restored = _optimizer(part, config, other)
    with part.running("An optimizer must continue from its state"):
        restored.load_state_dict(state)
    for weight, of_other in zip(network.parameters(), other.parameters(), strict=True):
        of_other.grad = None if weight.grad is None else weight.grad.clone()
    _step(part, optimizer)
    _step(part, restored)
    if not are_equal(network.state_dict(), other.state_dict()):
        raise part.error("An optimizer must continue from its state", "other weights after the next step")


def check_schedule(config: TrainingConfig, network: nn.Module, *, num_steps_per_epoch: int) -> None:
    """Advance a schedule through the run, or its first moments, and save and restore it half way.

    Raises:
        PartError: If a learning rate is not a finite number from 0, or the schedule cannot be restored.
    """
    part, by = Part("scheduler", config.scheduler.name), Part("optimizer", config.optimizer.name)
    optimizer, other = _optimizer(by, config, network), _optimizer(by, config, network)
    schedule = _schedule(part, config, optimizer, num_steps_per_epoch)
    restored = _schedule(part, config, other, num_steps_per_epoch)
    num_moments = config.num_epochs * (num_steps_per_epoch if schedule.moment is Moment.STEP else 1)
    num_before = min(num_moments // 2, _MOMENTS_BEFORE_SAVING)
    with warnings.catch_warnings():
        # No optimizer step is made before those of the schedule.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        _advance(part, [(schedule, optimizer)], range(num_before))
        state = part.stored(schedule.state_dict(), "scheduler")
        rates = part.stored(optimizer.state_dict(), "learning rate")
        with part.running("A schedule must continue from its state"):
            other.load_state_dict(rates)
            restored.load_state_dict(state)
        _advance(part, [(schedule, optimizer), (restored, other)], range(num_moments - num_before))
    part.stored(schedule.state_dict(), "scheduler")
    part.stored(optimizer.state_dict(), "learning rate")


def check_export(config: TrainingConfig, network: nn.Module, chunks_hu: torch.Tensor) -> None:
    """Export a network as MLflow's model registry does; one that cannot be is a PartError."""
    part, batch = Part("network", config.network.name), torch.export.Dim("batch")
    copied = copy.deepcopy(network).cpu().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    chunks_hu = chunks_hu[:2].cpu().contiguous()
    rule = "A network must be exportable by torch.export for MLflow (or train with --no-mlflow)"
    with part.running(rule), torch.no_grad():
        torch.export.export(copied, (chunks_hu,), dynamic_shapes=({0: batch},))


def _logits(part: Part, network: nn.Module, chunks_hu: torch.Tensor) -> torch.Tensor:
    size = len(chunks_hu)
    before = chunks_hu.clone()
    rule = f"A network must give logits float32 ({size}, 2) for cutouts float32 {tuple(chunks_hu.shape)}"
    with part.running(rule):
        logits = network(chunks_hu)
    if not torch.equal(before, chunks_hu):
        raise part.error("A network must leave its input as it is", "other values after forward")
    return part.check_tensor(rule, logits, shape=(size, 2), device=chunks_hu.device, dtype=torch.float32)


def _check_gradients(part: Part, network: nn.Module, *, needs_all: bool) -> None:
    gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.requires_grad}
    for name, gradient in gradients.items():
        if gradient is not None and not bool(gradient.isfinite().all()):
            raise part.error("A network must have finite gradients", f"nan or infinity in that of {name}")
        if gradient is None and needs_all:
            raise part.error("Of several processes each weight must have a gradient", f"none for {name}")
    if not any(gradient is not None and bool(gradient.any()) for gradient in gradients.values()):
        raise part.error("A network must learn from a batch", "gradients of 0 for all weights")


def _check_evaluation(part: Part, network: nn.Module, chunks_hu: torch.Tensor) -> None:
    """Check that the logits of a cutout depend on nothing but the cutout, and that ``folded`` gives the same."""
    state = copy.deepcopy(network.state_dict())
    with evaluating(network):
        logits = _logits(part, network, chunks_hu)
        if not _are_close(logits, _logits(part, network, chunks_hu)):
            raise part.error("A network must give the same logits again in evaluation", "other logits")
        alone = torch.cat([_logits(part, network, chunk[None]) for chunk in chunks_hu])
        if not _are_close(logits, alone):
            raise part.error(
                "A network must score each cutout on its own in evaluation", "other logits without the batch"
            )
        with part.running("A network with is_traceable must be traceable by torch.fx"):
            traced = folded(network)
        if not _are_close(logits, _logits(part, traced, chunks_hu)):
            raise part.error("A network with is_traceable must give the same logits when traced", "other logits")
    if not are_equal(state, network.state_dict()):
        raise part.error("A network must not change in evaluation", "other weights or buffers after forward")


def _are_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() <= _TOLERANCE * max(1.0, float(one.abs().max())))


def _check_losses(part: Part, loss: nn.Module, logits: torch.Tensor, labels: torch.Tensor) -> None:
    size = len(labels)
    rule = f"A loss must give losses float32 ({size},) for logits ({size}, 2), one a sample"
    given, known = logits.clone().requires_grad_(True), labels.clone()
    with part.running(rule):
        losses = loss(given, known)
        with torch.inference_mode():
            loss(logits.clone(), known)
    losses = part.check_tensor(rule, losses, shape=(size,), device=logits.device, dtype=torch.float32)
    if not torch.equal(given, logits) or not torch.equal(known, labels):
        raise part.error("A loss must leave logits and labels as they are", "other values after forward")
    if not losses.requires_grad:
        raise part.error("A loss must give losses with a gradient", "losses without")
    with part.running("A loss must have a gradient"):
        (gradient,) = torch.autograd.grad(losses.sum(), given)
    if not bool(gradient.isfinite().all()):
        got = f"{gradient[~gradient.isfinite()][0].item()} for finite losses"
        raise part.error("A loss must have finite gradients", got)
    if size == len(_LABELS) and not bool(gradient.any()):
        raise part.error("A loss must have a gradient that is not 0", f"{described(gradient)} of zeros")


def _optimizer(part: Part, config: TrainingConfig, network: nn.Module) -> torch.optim.Optimizer:
    with part.running("An optimizer must be built from a list of weights and its OptimizerConfig"):
        optimizer = build_optimizer(network, config.optimizer)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise part.error("An optimizer must be a torch.optim.Optimizer", f"a {type(optimizer).__name__}")
    return optimizer


def _step(part: Part, optimizer: torch.optim.Optimizer) -> None:
    with part.running("An optimizer must update the weights by step() without a closure"), fork_rng(0):
        optimizer.step()


def _schedule(part: Part, config: TrainingConfig, optimizer: torch.optim.Optimizer, num_steps: int) -> Schedule:
    with part.running("A schedule must be built from an optimizer and its SchedulerConfig"):
        schedule = build_schedule(
            optimizer, config.scheduler, num_epochs=config.num_epochs, num_steps_per_epoch=num_steps
        )
    if not isinstance(schedule, Schedule) or not isinstance(schedule.moment, Moment):
        raise part.error("A scheduler must give a Schedule with its Moment", f"a {type(schedule).__name__}")
    if getattr(schedule.scheduler, "optimizer", optimizer) is not optimizer:
        raise part.error("A schedule must change the optimizer that it is given", "one of another optimizer")
    _check_rates(part, optimizer)
    return schedule


def _advance(part: Part, each: list[tuple[Schedule, torch.optim.Optimizer]], moments: Iterable[int]) -> None:
    """Advance schedules side by side and compare their learning rates, for a fraction of a second."""
    deadline = time.monotonic() + _SECONDS_OF_SCHEDULE
    for _ in itertools.takewhile(lambda _: time.monotonic() < deadline, moments):
        for schedule, optimizer in each:
            with part.running("A schedule must advance to the end of the run"):
                schedule.after_step() if schedule.moment is Moment.STEP else schedule.after_epoch(0.5)
            _check_rates(part, optimizer)
        rates = [[group["lr"] for group in optimizer.param_groups] for _, optimizer in each]
        if any(not are_equal(other, rates[0]) for other in rates):
            raise part.error("A schedule must continue from its state", f"a rate {rates[1][0]}, not {rates[0][0]}")


def _check_rates(part: Part, optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        rate: Any = group.get("lr")
        with part.running("Learning rates must be numbers"):
            is_wrong = not math.isfinite(rate) or rate < 0
        if is_wrong:
            raise part.error("Learning rates must be finite and at least 0", f"{float(rate)}")
