"""What is known of each trial, in files of its own: whoever dies, what a trial was worth is not lost.

``<study>/trials/0003.json`` is written by whoever trains the trial, after each epoch; ``0003_ended.json`` beside it by
whoever runs the study, when the trial is over. A trial with the second file is never run again.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from luna_pipeline.core.storage.files import AnyPath, exists, listing, read_bytes, write_bytes
from luna_pipeline.tuning.space import changes_from_plain
from luna_pipeline.tuning.study import Variant

State = Literal["finished", "stopped_early", "failed"]
FINISHED: State = "finished"
STOPPED_EARLY: State = "stopped_early"
FAILED: State = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochScore:
    """What a trial was worth after an epoch.

    Attributes:
        epoch: From 1.
        score: What is to rise, the study's metric.
        auc: Of the validation fold.
        cpm: Of the validation fold; nan where it is not asked for.
        loss: Of the validation fold.
        seconds: Wall time of the epoch and its validation.
    """

    epoch: int
    score: float
    auc: float
    cpm: float
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialProgress:
    """How far a trial is.

    Attributes:
        variant: What it tries.
        epochs: What it was worth, epoch by epoch.
        error: Why it failed, in one line; empty where it did not.
    """

    variant: Variant
    epochs: tuple[EpochScore, ...] = ()
    error: str = ""

    def with_epoch(self, score: EpochScore) -> "TrialProgress":
        """Return it with an epoch more; one that was done before and again takes its place."""
        before = (epoch for epoch in self.epochs if epoch.epoch < score.epoch)
        return replace(self, epochs=(*before, score))

    def best(self) -> EpochScore | None:
        """Return the epoch with the highest score, of equals the first; None before the first one."""
        return max(self.epochs, key=lambda epoch: -math.inf if math.isnan(epoch.score) else epoch.score, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnd:
    """How a trial ended.

    Attributes:
        trial: Its number.
        changes: What it changed.
        state: ``finished``: trained to its end; ``stopped_early``: by the scheduler, the budget or its own patience;
            ``failed``.
        num_restarts: How often it was taken up again because its process was lost.
        error: Why it failed; empty where it did not.
    """

    trial: int
    changes: Mapping[str, Any]
    state: State
    num_restarts: int = 0
    error: str = ""


@dataclass(frozen=True)
class TrialRecords:
    """The files of a study's trials.

    Attributes:
        folder: The study's, on a disk or in S3, that all its processes reach.
    """

    folder: AnyPath

    def progress(self, variant: Variant) -> TrialProgress:
        """Return how far a trial is.

        Raises:
            ValueError: If another configuration was tried under its number.
        """
        if not exists(self._path(variant.trial)):
            return TrialProgress(variant=variant)
        found = self._read_progress(variant.trial)
        if found.variant != variant:
            msg = f"A trial must go on with its own configuration, got {variant} for {found.variant}"
            raise ValueError(f"{msg} (trial {variant.trial}). Begin a new study.")
        return found

    def keep(self, progress: TrialProgress) -> None:
        """Write how far a trial is."""
        values = {
            "trial": progress.variant.trial,
            "changes": progress.variant.changes,
            "error": progress.error,
            "epochs": [asdict(epoch) for epoch in progress.epochs],
        }
        write_bytes(self._path(progress.variant.trial), json.dumps(values, indent=1).encode())

    def end(self, end: TrialEnd) -> None:
        """Note that a trial is over."""
        write_bytes(self._path(end.trial, "_ended"), json.dumps(asdict(end), indent=1).encode())

    def has_ended(self, trial: int) -> bool:
        """Say whether a trial is over."""
        return exists(self._path(trial, "_ended"))

    def ended(self) -> dict[int, TrialEnd]:
        """Return the ends of all trials that are over, by their numbers, rising."""
        names = [name for name in listing(self.folder / "trials") if name.endswith("_ended.json")]
        found = (json.loads(read_bytes(self.folder / "trials" / name)) for name in names)
        ends = sorted(found, key=lambda end: int(end["trial"]))
        return {end["trial"]: TrialEnd(**{**end, "changes": changes_from_plain(end["changes"])}) for end in ends}

    def all_progress(self) -> dict[int, TrialProgress]:
        """Return how far each trial is that was begun, by its number, rising."""
        names = [name.removesuffix(".json") for name in listing(self.folder / "trials")]
        return {trial: self._read_progress(trial) for trial in sorted(int(name) for name in names if name.isdigit())}

    def next_number(self) -> int:
        """Return the first number above those of all trials that have left anything."""
        names = (name.partition(".")[0].partition("_")[0] for name in listing(self.folder / "trials"))
        return max((int(name) + 1 for name in names if name.isdigit()), default=0)

    def _read_progress(self, trial: int) -> TrialProgress:
        values = json.loads(read_bytes(self._path(trial)))
        epochs = tuple(EpochScore(**epoch) for epoch in values["epochs"])
        variant = Variant(trial, changes_from_plain(values["changes"]))
        return TrialProgress(variant=variant, epochs=epochs, error=values["error"])

    def _path(self, trial: int, suffix: str = "") -> AnyPath:
        return self.folder / "trials" / f"{trial:04d}{suffix}.json"
