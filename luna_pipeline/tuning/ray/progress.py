"""What Ray tells while a study runs: how each trial ended goes to its file, and to people what they want to know."""

import math
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from luna_pipeline.tuning.ray.search import EPOCH, ERROR, SCORE, variant_of
from luna_pipeline.tuning.records import FAILED, FINISHED, STOPPED_EARLY, State, TrialEnd, TrialRecords

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

SECONDS_BETWEEN_LINES = 30.0


@dataclass
class StudyListener:
    """Keeps how trials end, and says now and then how the study goes.

    Attributes:
        records: Where ends are kept.
        num_epochs: Epochs of a trial that is not stopped.
        num_trials: Trials of the study, where that is known.
        metric: What the score is.
        say: Is handed each line.
        clock: Seconds that only grow.
    """

    records: TrialRecords
    num_epochs: int
    num_trials: int | None
    metric: str
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _best: tuple[float, int] = field(default=(-math.inf, -1), init=False)
    _num_ended: int = field(default=0, init=False)
    _said_at: float = field(default=-math.inf, init=False)

    def __post_init__(self) -> None:
        # A study that is taken up again goes on counting.
        self._num_ended = len(self.records.ended())
        for trial, progress in self.records.all_progress().items():
            if (best := progress.best()) is not None and not progress.error:
                self._see(trial, best.score)

    def hear(self, trial: "Trial", result: dict[str, Any], trials: "list[Trial]") -> None:
        """Take what a trial has reached."""
        if not result.get(ERROR):
            self._see(variant_of(trial.config).trial, float(result[SCORE]))
        if self.clock() - self._said_at >= SECONDS_BETWEEN_LINES:
            # Of the trial that has just reported Ray knows this epoch only after it has told.
            epochs = {
                variant_of(other.config).trial: (result if other is trial else other.last_result or {}).get(EPOCH, 0)
                for other in trials
                if other.status == "RUNNING"
            }
            running = ", ".join(f"trial {running} at epoch {epoch}" for running, epoch in epochs.items())
            self._say_now(f"{self._count()} ended; {running}; {self._best_so_far()}")

    def end(self, trial: "Trial", *, error: str = "") -> None:
        """Note how a trial ended, once."""
        variant, last = variant_of(trial.config), trial.last_result or {}
        # The failure by which a trial was given up was followed by no restart.
        num_restarts = max(0, trial.num_failures - bool(error))
        error = error or str(last.get(ERROR, ""))
        if not self.records.has_ended(variant.trial):
            self._num_ended += 1
            state = self._state(int(last.get(EPOCH, 0)), error)
            self.records.end(
                TrialEnd(
                    trial=variant.trial, changes=variant.changes, state=state, error=error, num_restarts=num_restarts
                )
            )
            how = f"failed: {error}" if error else state.replace("_", " ")
            reached = f" with {self.metric} {last[SCORE]:.4f}" if SCORE in last and not error else ""
            self._say_now(f"{self._count()} ended: trial {variant.trial} {how}{reached} ({variant})")

    def lost(self, trial: "Trial") -> None:
        """Say that a trial lost its process."""
        self._say_now(f"Trial {variant_of(trial.config).trial} lost its process and goes on from its last checkpoint")

    def _see(self, number: int, score: float) -> None:
        if (score, -number) > (self._best[0], -self._best[1]):
            self._best = (score, number)

    def _state(self, epoch: int, error: str) -> State:
        if error:
            return FAILED
        return FINISHED if epoch >= self.num_epochs else STOPPED_EARLY

    def _count(self) -> str:
        return f"{self._num_ended} of {self.num_trials} trials" if self.num_trials else f"{self._num_ended} trials"

    def _best_so_far(self) -> str:
        score, number = self._best
        return "no score yet" if number < 0 else f"best so far trial {number} with {self.metric} {score:.4f}"

    def _say_now(self, line: str) -> None:
        self._said_at = self.clock()
        self.say(line)


# Ray keeps its callbacks in a file of its own, where no open console or Dagster log could go.
LISTENER: ContextVar[StudyListener] = ContextVar("listener")


class HandOn(Callback):
    """Hands what Ray tells to the listener of the study that is running."""

    def on_trial_result(
        self, iteration: int, trials: "list[Trial]", trial: "Trial", result: dict[str, Any], **info: Any
    ) -> None:
        """Hand an epoch on."""
        LISTENER.get().hear(trial, result, trials)

    def on_trial_complete(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        """Hand an end on."""
        LISTENER.get().end(trial)

    def on_trial_recover(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        """Hand on that a process was lost."""
        LISTENER.get().lost(trial)

    def on_trial_error(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        """Hand on that a trial was given up."""
        LISTENER.get().end(trial, error=last_line(str(trial.get_error() or "its process was lost too often")))


def last_line(text: str) -> str:
    """Return the last line of a traceback that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
