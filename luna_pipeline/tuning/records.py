"""Files of the trials, which survive a crash of any process.

The process that trains a trial writes ``<study>/trials/0003.json`` after each epoch; the process that runs the study
writes ``0003_ended.json`` when the trial has ended. A trial with the second file is never run again.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.storage.files import AnyPath, exists, listing, write_bytes
from luna_pipeline.tuning.space import changes_from_plain
from luna_pipeline.tuning.study import Variant

T = TypeVar("T")
State = Literal["finished", "stopped_early", "failed"]
FINISHED: State = "finished"
STOPPED_EARLY: State = "stopped_early"
FAILED: State = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochScore:
    """Validation scores of a trial after an epoch.

    Attributes:
        epoch: From 1.
        score: The study's metric.
        auc: ROC AUC.
        cpm: nan if the metric is the AUC.
        loss: Mean loss.
        seconds: Wall time of training and validation.
    """

    epoch: int
    score: float
    auc: float
    cpm: float
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialProgress:
    """Scores of a trial so far.

    Attributes:
        variant: Configuration of the trial.
        epochs: Score of each epoch.
        error: One line; empty if the trial did not fail.
    """

    variant: Variant
    epochs: tuple[EpochScore, ...] = ()
    error: str = ""

    def with_epoch(self, score: EpochScore) -> "TrialProgress":
        """Return a copy with one more epoch, which replaces this epoch and later ones."""
        before = (epoch for epoch in self.epochs if epoch.epoch < score.epoch)
        return replace(self, epochs=(*before, score))

    def best(self) -> EpochScore | None:
        """Return the epoch with the highest score, the first of equal ones; None without epochs."""
        return max(self.epochs, key=lambda epoch: -math.inf if math.isnan(epoch.score) else epoch.score, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnd:
    """End of a trial.

    Attributes:
        trial: Number.
        changes: Changes to the recipe.
        state: ``finished`` (all epochs), ``stopped_early`` (scheduler, budget or early stopping) or ``failed``.
        num_restarts: Restarts after its process died.
        error: Empty if it did not fail.
    """

    trial: int
    changes: Mapping[str, Any]
    state: State
    num_restarts: int = 0
    error: str = ""


@dataclass(frozen=True)
class TrialRecords:
    """Files of a study's trials.

    Attributes:
        folder: The study's folder, on a disk or in S3, shared by all processes.
    """

    folder: AnyPath

    def progress(self, variant: Variant) -> TrialProgress:
        """Return the progress of a trial.

        Raises:
            ValueError: If its number belongs to another configuration.
        """
        if not exists(self._path(variant.trial)):
            return TrialProgress(variant=variant)
        found = self._read_progress(variant.trial)
        if found.variant != variant:
            msg = f"A trial must go on with its own configuration, got {variant} for {found.variant}"
            raise ValueError(f"{msg} (trial {variant.trial}). Begin a new study.")
        return found

    def keep(self, progress: TrialProgress) -> None:
        """Write the progress of a trial."""
        values = {
            "trial": progress.variant.trial,
            "changes": progress.variant.changes,
            "error": progress.error,
            "epochs": [asdict(epoch) for epoch in progress.epochs],
        }
        write_bytes(self._path(progress.variant.trial), json.dumps(values, indent=1).encode())

    def end(self, end: TrialEnd) -> None:
        """Write the end of a trial."""
        write_bytes(self._path(end.trial, "_ended"), json.dumps(asdict(end), indent=1).encode())

    def has_ended(self, trial: int) -> bool:
        """Return whether a trial has ended."""
        return exists(self._path(trial, "_ended"))

    def ended(self) -> dict[int, TrialEnd]:
        """Return the ends of all ended trials by number, in ascending order."""
        return {trial: self._read(trial, "_ended", _as_end) for trial in self._numbers("_ended")}

    def all_progress(self) -> dict[int, TrialProgress]:
        """Return the progress of all started trials by number, in ascending order."""
        return {trial: self._read_progress(trial) for trial in self._numbers()}

    def next_number(self) -> int:
        """Return the first number above those of all trials with files."""
        return max([*self._numbers(), *self._numbers("_ended")], default=-1) + 1

    def _read_progress(self, trial: int) -> TrialProgress:
        return self._read(trial, "", _as_progress)

    def _read(self, trial: int, suffix: str, make: Callable[[int, dict[str, Any]], T]) -> T:
        """Return what a file of a trial holds; a ValueError names the file."""
        path, advice = self._path(trial, suffix), "Remove it, or begin a new study."
        values = read_json_object(path, "A file of a trial", advice=advice)
        try:
            return make(trial, values)
        # A missing entry, or one of another type.
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            rule = f"A file of a trial must hold its entries, got {type(error).__name__}: {error} ({path})."
            raise ValueError(f"{rule} {advice}") from error

    def _numbers(self, suffix: str = "") -> list[int]:
        """Return the numbers of the trials with such a file in ascending order; other files are ignored."""
        pattern = re.compile(rf"([0-9]{{4,9}}){suffix}\.json")
        found = (pattern.fullmatch(name) for name in listing(self.folder / "trials"))
        return sorted(int(match[1]) for match in found if match)

    def _path(self, trial: int, suffix: str = "") -> AnyPath:
        return self.folder / "trials" / f"{trial:04d}{suffix}.json"


def _as_progress(trial: int, values: dict[str, Any]) -> TrialProgress:
    epochs = tuple(EpochScore(**epoch) for epoch in values["epochs"])
    for number in (number for epoch in epochs for number in asdict(epoch).values()):
        if type(number) not in (int, float):
            msg = f"{number!r:.80} as a score"
            raise TypeError(msg)
    variant = Variant(trial, changes_from_plain(values["changes"]))
    return TrialProgress(variant=variant, epochs=epochs, error=values["error"])


def _as_end(trial: int, values: dict[str, Any]) -> TrialEnd:
    return TrialEnd(**{**values, "trial": trial, "changes": changes_from_plain(values["changes"])})
