"""Progress of a running study: records how each trial ended, and reports lines of progress."""

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
    """Records the ends of trials, and reports progress at most every 30 s.

    Attributes:
        records: Files of the trials.
        num_epochs: Epochs of a trial that is not stopped early.
        num_trials: Number of trials; None if unknown.
        metric: Name of the score.
        say: Called with each line.
        clock: Monotonic time in seconds.
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
        # A resumed study continues its counts.
        self._num_ended = len(self.records.ended())
        for trial, progress in self.records.all_progress().items():
            if (best := progress.best()) is not None and not progress.error:
                self._see(trial, best.score)

    def hear(self, trial: "Trial", result: dict[str, Any], trials: "list[Trial]") -> None:
        """Take the result of an epoch."""
        if not result.get(ERROR):
            self._see(variant_of(trial.config).trial, float(result[SCORE]))
        if self.clock() - self._said_at >= SECONDS_BETWEEN_LINES:
            # Ray updates the last result of the reporting trial after this call.
            epochs = {
                variant_of(other.config).trial: (result if other is trial else other.last_result or {}).get(EPOCH, 0)
                for other in trials
                if other.status == "RUNNING"
            }
            running = ", ".join(f"trial {running} at epoch {epoch}" for running, epoch in epochs.items())
            self._say_now(f"{self._count()} ended; {running}; {self._best_so_far()}")

    def end(self, trial: "Trial", *, error: str = "") -> None:
        """Record the end of a trial, once."""
        variant, last = variant_of(trial.config), trial.last_result or {}
        # The last failure of an abandoned trial was not followed by a restart.
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
        """Report that the process of a trial died."""
        number = variant_of(trial.config).trial
        self._say_now(f"The process of trial {number} died; it resumes from its last checkpoint")

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


# Ray pickles its callbacks, and a console or a Dagster log cannot be pickled.
LISTENER: ContextVar[StudyListener] = ContextVar("listener")


class HandOn(Callback):
    """Passes Ray's callbacks to the listener of the running study."""

    def on_trial_result(
        self, iteration: int, trials: "list[Trial]", trial: "Trial", result: dict[str, Any], **info: Any
    ) -> None:
        """Pass on the result of an epoch."""
        LISTENER.get().hear(trial, result, trials)

    def on_trial_complete(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        """Pass on the end of a trial."""
        LISTENER.get().end(trial)

    def on_trial_recover(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        """Pass on that a process died."""
        LISTENER.get().lost(trial)

    def on_trial_error(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        """Pass on that a trial was abandoned."""
        LISTENER.get().end(trial, error=last_line(str(trial.get_error() or "its process was lost too often")))


def last_line(text: str) -> str:
    """Return the last non-empty line of a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
