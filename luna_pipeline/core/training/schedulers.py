"""Learning rate schedules by name; each changes after a training step, after an epoch, or by the validation score."""

from torch.optim import Optimizer, lr_scheduler

from luna_pipeline.core.models.optimizer_step import Moment, Schedule
from luna_pipeline.core.training.parts import SCHEDULERS, SchedulerConfig


def constant(optimizer: Optimizer, config: SchedulerConfig, *, num_epochs: int, num_steps: int) -> Schedule:
    """Return a constant learning rate."""
    return Schedule(lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0), Moment.EPOCH)


def exponential(optimizer: Optimizer, config: SchedulerConfig, *, num_epochs: int, num_steps: int) -> Schedule:
    """Return the schedule that multiplies by ``gamma`` after each epoch."""
    return Schedule(lr_scheduler.ExponentialLR(optimizer, gamma=config.gamma), Moment.EPOCH)


def step(optimizer: Optimizer, config: SchedulerConfig, *, num_epochs: int, num_steps: int) -> Schedule:
    """Return the schedule that multiplies by ``gamma`` after every ``step_epochs`` epochs."""
    return Schedule(lr_scheduler.StepLR(optimizer, config.step_epochs, gamma=config.gamma), Moment.EPOCH)


def cosine(optimizer: Optimizer, config: SchedulerConfig, *, num_epochs: int, num_steps: int) -> Schedule:
    """Return the schedule that falls along half a cosine over all training steps of the run."""
    lowest = optimizer.param_groups[0]["lr"] * config.final_share
    return Schedule(lr_scheduler.CosineAnnealingLR(optimizer, num_steps, eta_min=lowest), Moment.STEP)


def one_cycle(optimizer: Optimizer, config: SchedulerConfig, *, num_epochs: int, num_steps: int) -> Schedule:
    """Return the schedule that rises from a 25th, then falls, over all training steps of the run.

    Source:
        Smith and Topin, Super-convergence, 2018.
    """
    highest, start_divisor = optimizer.param_groups[0]["lr"], 25.0
    scheduler = lr_scheduler.OneCycleLR(
        optimizer,
        highest,
        total_steps=num_steps + 1,
        div_factor=start_divisor,
        final_div_factor=1 / (config.final_share * start_divisor),
        cycle_momentum=False,
    )
    return Schedule(scheduler, Moment.STEP)


def plateau(optimizer: Optimizer, config: SchedulerConfig, *, num_epochs: int, num_steps: int) -> Schedule:
    """Return the schedule that multiplies by ``gamma`` after ``step_epochs`` validations without a rise."""
    # ``patience`` epochs may pass without a rise; the next one lowers the rate.
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=config.gamma, patience=config.step_epochs - 1
    )
    return Schedule(scheduler, Moment.VALIDATION)


def build_schedule(
    optimizer: Optimizer, config: SchedulerConfig, *, num_epochs: int, num_steps_per_epoch: int
) -> Schedule:
    """Return the configured schedule of an optimizer; an unknown name is a ValueError."""
    build = SCHEDULERS.get(config.name)
    num_steps = max(1, num_epochs * num_steps_per_epoch)
    schedule: Schedule = build(optimizer, config, num_epochs=num_epochs, num_steps=num_steps)  # type: ignore[operator]
    return schedule
