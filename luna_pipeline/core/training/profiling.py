"""Profile of training steps: a trace, the most expensive operators, and the share of waiting for data."""

import logging
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from luna_pipeline.core.events.messages import BaseMessageHandler, LogProfile

_log = logging.getLogger(__name__)

NUM_STEPS = 8
NUM_OPERATORS = 10
# Torch's profiler's own names of a step, and of the request of a batch from a loader.
STEP_EVENT, LOADER_EVENT = "ProfilerStep", "enumerate(DataLoader)"


class StepProfiler:
    """Traces some of the first training steps and reports them once; later steps are not slowed down.

    Use it under ``with``, and call ``step`` after each training step. The first step is not traced, because it includes
    one-time work; the second one warms the profiler up.
    """

    def __init__(
        self, folder: Path, *, handler: BaseMessageHandler, steps_in_epoch: int, num_steps: int = NUM_STEPS
    ) -> None:
        """Prepare a trace.

        Args:
            folder: TensorBoard folder of the run, for ``training.<number>.pt.trace.json``; created if it is missing.
                TensorBoard's plugin for PyTorch's profiler, Perfetto and Chrome show the trace.
            handler: Receives the report (``LogProfile``).
            steps_in_epoch: Training steps of an epoch; the trace ends before the validation.
            num_steps: Largest number of traced steps.

        Raises:
            ValueError: If there is no step to trace.
        """
        if min(num_steps, steps_in_epoch) < 1:
            msg = f"A profile must have a training step, got {num_steps} of {steps_in_epoch} in an epoch."
            raise ValueError(f"{msg} Train with a smaller batch, or without a profile.")
        self._folder = folder
        self._handler = handler
        unseen, warming = int(steps_in_epoch > 2), int(steps_in_epoch > 1)
        traced = min(num_steps, steps_in_epoch - unseen - warming)
        with warnings.catch_warnings():
            # The trace of a single step includes its start on purpose.
            warnings.filterwarnings("ignore", message="Profiler won't be using warmup")
            steps = schedule(wait=unseen, warmup=warming, active=traced, repeat=1)
        self._is_reported = False
        self._profile = profile(activities=_activities(), schedule=steps, on_trace_ready=self._report, acc_events=True)

    def step(self) -> None:
        """Record the end of a training step."""
        self._profile.step()

    def __enter__(self) -> Self:
        self._profile.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._profile.stop()
        if not self._is_reported:
            _log.warning("The run ended before a training step was traced: there is no profile of it.")

    def _report(self, traced: profile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"training.{time.time_ns()}.pt.trace.json"
        unfinished = path.with_suffix(".unfinished")
        traced.export_chrome_trace(str(unfinished))
        unfinished.rename(path)
        self._is_reported = True
        averages = list(traced.key_averages())
        self._handler.handle_message(
            LogProfile(table=operator_table(averages), trace_file=str(path), waiting_share=waiting_share(averages))
        )


def operator_table(averages: list[Any], *, num_operators: int = NUM_OPERATORS) -> str:
    """Return the most expensive operators as lines: name, share of all operators, milliseconds, calls.

    Args:
        averages: Measurements of torch's profiler for each operator (``key_averages``).
        num_operators: Largest number of rows.

    Returns:
        A header and a row for each operator, the most expensive first. Times exclude called operators; they are those
        of the GPU if there is one, else of the CPU.
    """
    operators = [entry for entry in averages if not entry.key.startswith((STEP_EVENT, LOADER_EVENT))]
    is_on_gpu = any(entry.self_device_time_total > 0 for entry in operators)
    cost = {id(entry): entry.self_device_time_total if is_on_gpu else entry.self_cpu_time_total for entry in operators}
    whole = sum(cost.values()) or 1.0
    most_expensive = sorted(operators, key=lambda entry: -cost[id(entry)])[:num_operators]
    rows = [
        (entry.key, f"{100 * cost[id(entry)] / whole:.1f} %", f"{cost[id(entry)] / 1000:.1f}", str(entry.count))
        for entry in most_expensive
    ]
    rows.insert(0, ("operator", "share", "gpu ms" if is_on_gpu else "cpu ms", "calls"))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{width}}  {share:>7}  {ms:>10}  {calls:>7}" for name, share, ms, calls in rows)


def waiting_share(averages: list[Any]) -> float:
    """Return the share of the traced steps' time spent waiting for a batch, in [0, 1]."""
    whole = sum(entry.cpu_time_total for entry in averages if entry.key.startswith(STEP_EVENT))
    waiting = sum(entry.cpu_time_total for entry in averages if entry.key.startswith(LOADER_EVENT))
    return float(waiting / whole) if whole else 0.0


def _activities() -> list[ProfilerActivity]:
    return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
