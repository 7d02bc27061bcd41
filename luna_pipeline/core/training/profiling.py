"""Where the time of training steps goes: a trace, the most expensive operators, and the waiting for data."""

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
# What torch's profiler itself calls a step, and the request of a batch from a loader.
STEP_EVENT, LOADER_EVENT = "ProfilerStep", "enumerate(DataLoader)"


class StepProfiler:
    """Traces some of the first training steps, reports on them once, and then costs nothing.

    Use it under ``with``, and call ``step`` after each training step. The first step passes unseen, because what
    happens in it happens once; the second one warms the profiler up.
    """

    def __init__(
        self, folder: Path, *, handler: BaseMessageHandler, steps_in_epoch: int, num_steps: int = NUM_STEPS
    ) -> None:
        """Prepare a trace.

        Args:
            folder: The run's folder of TensorBoard, where ``training.<number>.pt.trace.json`` is written; made where
                it is missing. TensorBoard's plugin for PyTorch's profiler shows it, and Perfetto and Chrome open it.
            handler: Takes the report (``LogProfile``).
            steps_in_epoch: Training steps of an epoch; the validation after them does not belong into the trace.
            num_steps: Steps that are traced, at most.

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
            # Of a single step the beginning is part of what is asked for.
            warnings.filterwarnings("ignore", message="Profiler won't be using warmup")
            steps = schedule(wait=unseen, warmup=warming, active=traced, repeat=1)
        self._is_reported = False
        self._profile = profile(activities=_activities(), schedule=steps, on_trace_ready=self._report, acc_events=True)

    def step(self) -> None:
        """Take note that a training step is over."""
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
        averages: What torch's profiler knows of each operator (``key_averages``).
        num_operators: How many rows.

    Returns:
        A header and a row each, the most expensive
        first. The time of an operator is its own, without that of operators that
        it calls: on the GPU where there is one, else on the CPU.
    """
    operators = [entry for entry in averages if not entry.key.startswith((STEP_EVENT, LOADER_EVENT))]
    is_on_gpu = any(entry.self_device_time_total > 0 for entry in operators)
    cost = {id(entry): entry.self_device_time_total if is_on_gpu else entry.self_cpu_time_total for entry in operators}
    whole = sum(cost.values()) or 1.0
    dearest = sorted(operators, key=lambda entry: -cost[id(entry)])[:num_operators]
    rows = [
        (entry.key, f"{100 * cost[id(entry)] / whole:.1f} %", f"{cost[id(entry)] / 1000:.1f}", str(entry.count))
        for entry in dearest
    ]
    rows.insert(0, ("operator", "share", "gpu ms" if is_on_gpu else "cpu ms", "calls"))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{width}}  {share:>7}  {ms:>10}  {calls:>7}" for name, share, ms, calls in rows)


def waiting_share(averages: list[Any]) -> float:
    """Return the share of the traced steps in which the loop waited for a batch, in [0, 1].

    Args:
        averages: What torch's profiler knows of each operator (``key_averages``).
    """
    whole = sum(entry.cpu_time_total for entry in averages if entry.key.startswith(STEP_EVENT))
    waiting = sum(entry.cpu_time_total for entry in averages if entry.key.startswith(LOADER_EVENT))
    return float(waiting / whole) if whole else 0.0


def _activities() -> list[ProfilerActivity]:
    return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
