"""Training steps: gradients of one or more batches, clipped, followed; the learning rate; 16 bits where they pay."""

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import nn


class LearningRateSchedule(Protocol):
    """Moves an optimizer's learning rate."""

    def after_step(self) -> None:
        """Take note of a training step."""

    def after_epoch(self, validation_score: float) -> None:
        """Take note of an epoch; its score is nan where it was not validated."""

    def state_dict(self) -> dict[str, Any]:
        """Return where it is, as plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class Stepper:
    """Follows gradients.

    Attributes:
        optimizer: Of the network's parameters that learn.
        schedule: Moves its learning rate.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: LearningRateSchedule,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulated_batches: int = 1,
        mixed_precision: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            network: On the device where it is trained; may be in a parallel wrapper.
            optimizer: Of its parameters.
            schedule: Of the optimizer.
            clip_norm: Largest L2 norm of all gradients together; None for any.
            clip_value: Largest absolute value of each number; None for any.
            accumulated_batches: So many batches make a step; fewer at the end of an epoch.
            mixed_precision: Whether a GPU computes in 16 bits; a CPU, which would be many times slower, does not.
        """
        self.optimizer = optimizer
        self.schedule = schedule
        self._network = network
        self._clip_norm = clip_norm
        self._clip_value = clip_value
        self._accumulated_batches = accumulated_batches
        self._device_type = next(network.parameters()).device.type
        self._is_mixed = mixed_precision and self._device_type == "cuda"
        self._dtype = (
            torch.bfloat16
            if self._is_mixed and torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float16
        )
        # bfloat16 has float32's range; only float16 needs its small gradients scaled up.
        self._scaler = torch.amp.GradScaler(enabled=self._is_mixed and self._dtype == torch.float16)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Within, the network computes in the precision of the run."""
        return torch.autocast(self._device_type, dtype=self._dtype, enabled=self._is_mixed)

    def is_step(self, batch_index: int, num_batches: int) -> bool:
        """Say whether this batch, counted from 0, is the last one of a step."""
        return (batch_index + 1) % self._accumulated_batches == 0 or batch_index + 1 == num_batches

    @contextlib.contextmanager
    def gradients(self, *, is_step: bool) -> Iterator[None]:
        """Judge and go ``backward`` within; processes that train together exchange gradients once a step."""
        no_sync = getattr(self._network, "no_sync", contextlib.nullcontext)
        with contextlib.nullcontext() if is_step else no_sync():
            yield

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a batch."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self) -> dict[str, float]:
        """Clip and follow the gradients, and forget them.

        Returns:
            ``gradient_norm`` (L2, before its clipping) and ``learning_rate`` of this step.
        """
        learning_rate = float(self.optimizer.param_groups[0]["lr"])
        self._scaler.unscale_(self.optimizer)
        norm = self._clip()
        scale = self._scaler.get_scale()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self._scaler.get_scale() >= scale:
            # Else gradients were too large for 16 bits, and nothing was learned in this step.
            self.schedule.after_step()
        return {"gradient_norm": norm, "learning_rate": learning_rate}

    def get_state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the states of optimizer (with the scale of its gradients) and schedule."""
        return {**self.optimizer.state_dict(), "scaler": self._scaler.state_dict()}, self.schedule.state_dict()

    def load_state(self, optimizer_state: dict[str, Any], schedule_state: dict[str, Any]) -> None:
        """Go on from there."""
        self.optimizer.load_state_dict({key: value for key, value in optimizer_state.items() if key != "scaler"})
        if state := optimizer_state["scaler"]:
            self._scaler.load_state_dict(state)
        self.schedule.load_state_dict(schedule_state)

    def _clip(self) -> float:
        parameters = [parameter for parameter in self._network.parameters() if parameter.grad is not None]
        if self._clip_value is not None:
            nn.utils.clip_grad_value_(parameters, self._clip_value)
        if self._clip_norm is not None:
            return float(nn.utils.clip_grad_norm_(parameters, self._clip_norm))
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return float(nn.utils.get_total_norm(gradients))
