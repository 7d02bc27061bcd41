"""Optimizer steps: gradients of one or more batches, clipping, learning rate schedule and mixed precision."""

import contextlib
import enum
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from luna_pipeline.core.models.finite import ADVICE, NonFiniteError

# Each overflow halves the scale, which starts at 2 ** 16: more are not for want of range.
_MAX_SKIPPED_STEPS = 40


class Moment(enum.StrEnum):
    """When a learning rate changes."""

    STEP = "after a training step"
    EPOCH = "after an epoch"
    VALIDATION = "by the validation score"


@dataclass(frozen=True)
class Schedule:
    """A scheduler of torch and the moment at which it advances."""

    scheduler: lr_scheduler.LRScheduler
    moment: Moment

    def after_step(self) -> None:
        """Advance after a training step, if it is this schedule's moment."""
        if self.moment is Moment.STEP:
            self.scheduler.step()

    def after_epoch(self, validation_score: float) -> None:
        """Advance after an epoch; its score is nan where it was not validated."""
        if self.moment is Moment.EPOCH:
            with warnings.catch_warnings():
                # A run resumed after the last step of its first epoch makes no optimizer step before this one.
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                self.scheduler.step()
        if self.moment is Moment.VALIDATION and not math.isnan(validation_score):
            self.scheduler.step(validation_score)  # type: ignore[arg-type]  # ReduceLROnPlateau takes a score here

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the scheduler as plain values."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of the scheduler."""
        self.scheduler.load_state_dict(state)


class Stepper:
    """Updates the weights of a network.

    Attributes:
        optimizer: Optimizer of the trainable parameters.
        schedule: Changes its learning rate.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulated_batches: int = 1,
        mixed_precision: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            network: The network on the device where it is trained; may be wrapped by DDP.
            optimizer: Optimizer of its parameters.
            schedule: Schedule of the optimizer.
            clip_norm: Largest L2 norm of all gradients together; None for no limit.
            clip_value: Largest absolute value of each gradient; None for no limit.
            accumulated_batches: Batches of a step; fewer at the end of an epoch.
            mixed_precision: Whether a GPU computes in 16 bits. On a CPU 16 bits are many times slower, and not used.
        """
        self.optimizer = optimizer
        self.schedule = schedule
        self._network = network
        self._clip_norm = clip_norm
        self._clip_value = clip_value
        self._accumulated_batches = accumulated_batches
        self._device_type = next(network.parameters()).device.type
        self._is_mixed = mixed_precision and self._device_type == "cuda"
        has_bfloat16 = self._is_mixed and torch.cuda.is_bf16_supported(including_emulation=False)
        self._dtype = torch.bfloat16 if has_bfloat16 else torch.float16
        # bfloat16 has float32's range; only float16 needs its small gradients scaled up.
        self._scaler = torch.amp.GradScaler(enabled=self._is_mixed and self._dtype == torch.float16)
        self._num_skipped = 0

    @property
    def may_overflow(self) -> bool:
        """Whether gradients may overflow, which skips a step: in float16 only."""
        return self._scaler.is_enabled()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the network computes in the precision of the run."""
        return torch.autocast(self._device_type, dtype=self._dtype, enabled=self._is_mixed)

    def is_step(self, batch_index: int, num_batches: int) -> bool:
        """Return whether this batch, counted from 0, is the last one of a step."""
        return (batch_index + 1) % self._accumulated_batches == 0 or batch_index + 1 == num_batches

    @contextlib.contextmanager
    def gradients(self, *, is_step: bool) -> Iterator[None]:
        """Context of forward and ``backward``: processes that train together exchange gradients once a step."""
        no_sync = getattr(self._network, "no_sync", contextlib.nullcontext)
        with contextlib.nullcontext() if is_step else no_sync():
            yield

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a batch."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self) -> dict[str, float | torch.Tensor]:
        """Clip the gradients, update the weights, and reset the gradients.

        Waits for the device only with float16, whose gradient scale decides whether a step is skipped.

        Returns:
            ``gradient_norm`` (L2, before its clipping; on the device) and ``learning_rate`` of this step.

        Raises:
            NonFiniteError: If float16 gradients overflow again and again.
        """
        learning_rate = float(self.optimizer.param_groups[0]["lr"])
        self._scaler.unscale_(self.optimizer)
        norm = self._clip()
        scale = self._scaler.get_scale()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        # A lower scale means that gradients overflowed in float16 and the optimizer skipped this step.
        if self._scaler.get_scale() >= scale:
            self._num_skipped = 0
            self.schedule.after_step()
        else:
            self._num_skipped += 1
            if self._num_skipped > _MAX_SKIPPED_STEPS:
                msg = f"Gradients must be finite, got overflows in {self._num_skipped} steps in a row."
                raise NonFiniteError(f"{msg} {ADVICE}")
        return {"gradient_norm": norm, "learning_rate": learning_rate}

    def get_state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the states of the optimizer (with its gradient scale) and of the schedule."""
        optimizer_state = {**self.optimizer.state_dict(), "scaler": self._scaler.state_dict()}
        return optimizer_state, self.schedule.state_dict()

    def load_state(self, optimizer_state: dict[str, Any], schedule_state: dict[str, Any]) -> None:
        """Resume from the states that ``get_state`` returned."""
        self.optimizer.load_state_dict({key: value for key, value in optimizer_state.items() if key != "scaler"})
        if state := optimizer_state["scaler"]:
            self._scaler.load_state_dict(state)
        self.schedule.load_state_dict(schedule_state)

    def _clip(self) -> torch.Tensor:
        parameters = [parameter for parameter in self._network.parameters() if parameter.grad is not None]
        if self._clip_value is not None:
            nn.utils.clip_grad_value_(parameters, self._clip_value)
        if self._clip_norm is not None:
            return nn.utils.clip_grad_norm_(parameters, self._clip_norm)
        return nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
