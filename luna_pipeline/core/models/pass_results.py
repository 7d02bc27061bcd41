"""Results of a pass over the data, collected on the device and transferred every few batches.

Each transfer waits for the device. On a GPU the results of 16 batches share one, so that the queue of kernels rarely
runs empty; processes that train together share one reduction of the logged losses.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from luna_pipeline.core.distributed import DistributedContext
from luna_pipeline.core.events.messages import LogBatch, Mode
from luna_pipeline.core.models.base import SplitResult
from luna_pipeline.core.models.finite import ADVICE, NonFiniteError, check_number

BATCHES_PER_TRANSFER = 16
StepValues = Mapping[str, float | torch.Tensor]
Report = Callable[[LogBatch], None]


class BatchResult(NamedTuple):
    """Results of a batch, without a graph.

    Attributes:
        candidate_id: int64 (N,), on the CPU.
        labels: int64 (N,), on the CPU.
        scores: float32 (N,), on the device.
        losses: Loss of each sample, float32 (N,), on the device.
        groups: int64 (N,), on the CPU.
        is_counted: bool (N,), on the CPU; False for samples that only keep a process in step (``FILLER``).
    """

    candidate_id: torch.Tensor
    labels: torch.Tensor
    scores: torch.Tensor
    losses: torch.Tensor
    groups: torch.Tensor
    is_counted: torch.Tensor

    @property
    def on_device(self) -> tuple[torch.Tensor, ...]:
        """Values to transfer, float32 (N,) each."""
        return (self.scores, self.losses)

    def on_host(self, transferred: torch.Tensor) -> SplitResult:
        """Return the counted samples; float64 (2N,) holds the transferred scores, then the losses."""
        scores, losses = transferred[self.is_counted.repeat(2)].chunk(2)
        host = (self.candidate_id, self.labels, self.groups)
        candidate_id, labels, groups = (values[self.is_counted].numpy() for values in host)
        return SplitResult(candidate_id, labels, scores.numpy(), losses.numpy(), groups)


class SampleResult(Protocol):
    """Results of a batch, without a graph, such as ``BatchResult``."""

    @property
    def losses(self) -> torch.Tensor:
        """Loss of each sample, float32 (N,), on the device."""

    @property
    def on_device(self) -> tuple[torch.Tensor, ...]:
        """Values to transfer, float32 (N,) each."""

    def on_host(self, transferred: torch.Tensor) -> SplitResult:
        """Return the counted samples; float64 (k N,) holds the transferred values of ``on_device``."""


class PassResults:
    """Collects the results of a pass and reports each batch (``LogBatch``) after its transfer.

    A transfer ends the pass with a ``NonFiniteError``, in all processes, if a training loss, a gradient norm or a
    validation score is not finite.

    Attributes:
        parts: Samples of the transferred batches of this process, a part for each batch.
        may_overflow: Whether gradients may overflow: float16 training skips such a step.
    """

    def __init__(self, epoch: int, mode: Mode, num_batches: int, processes: DistributedContext, report: Report) -> None:
        self.parts: list[SplitResult] = []
        self.may_overflow = False
        self._pass: dict[str, Any] = {"epoch": epoch, "mode": mode, "num_batches": num_batches}
        self._num_batches = num_batches
        self._processes = processes
        self._report = report
        self._waiting: list[tuple[int, SampleResult, StepValues, int]] = []

    def add(self, batch_index: int, result: SampleResult, *, values: StepValues, num_samples_seen: int) -> None:
        """Add a batch; the last one, every 16th on a GPU and every one on a CPU cause a transfer."""
        self._waiting.append((batch_index, result, values, num_samples_seen))
        is_cheap = self._processes.world_size == 1 and result.losses.device.type == "cpu"
        is_due = is_cheap or len(self._waiting) == BATCHES_PER_TRANSFER
        if is_due or batch_index + 1 == self._num_batches:
            self.transfer()

    def transfer(self) -> None:
        """Transfer and report the batches that wait; all processes must call it after the same batch."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        results = [result for _, result, _, _ in waiting]
        samples = [values for result in results for values in result.on_device]
        scalars = [value for _, _, values, _ in waiting for value in values.values() if isinstance(value, torch.Tensor)]
        on_host = torch.cat([*samples, *(scalar.reshape(1) for scalar in scalars)]).cpu().double()
        sizes = [len(result.on_device) * len(result.losses) for result in results]
        *parts, numbers = torch.split(on_host, [*sizes, len(scalars)])
        new = [result.on_host(part) for result, part in zip(results, parts, strict=True)]
        self.parts += new
        number = iter(numbers.tolist())
        sums = self._processes.sum(np.array([_sums(part) for part in new]))
        for (batch_index, _, values, num_seen), (total, count, wrong) in zip(waiting, sums.tolist(), strict=True):
            on_cpu = {key: next(number) if isinstance(value, torch.Tensor) else value for key, value in values.items()}
            self._check(batch_index, total / count, on_cpu, num_wrong_scores=int(wrong))
            where = {**self._pass, "batch_index": batch_index, "num_samples_seen": num_seen}
            self._report(LogBatch(**where, values=on_cpu, loss=total / count))

    def _check(self, batch_index: int, loss: float, values: Mapping[str, float], *, num_wrong_scores: int) -> None:
        mode, batch = self._pass["mode"], f"batch {batch_index + 1} of {self._num_batches}"
        where = f"epoch {self._pass['epoch']}, {batch}"
        if mode is Mode.TRAINING:
            check_number("training loss", loss, where=where)
            if not self.may_overflow:
                check_number("gradient norm", values.get("gradient_norm", 0.0), where=f"{where}, loss {loss:.4g}")
        elif num_wrong_scores:
            msg = f"The {mode} scores must be finite, got {num_wrong_scores} that are nan or infinite ({where})."
            raise NonFiniteError(f"{msg} {ADVICE}")


def _sums(part: SplitResult) -> tuple[float, int, int]:
    """Return the sum of the losses, the number of samples, and that of scores that are not finite."""
    return part.losses.sum(), len(part.losses), int((~np.isfinite(part.scores)).sum())
