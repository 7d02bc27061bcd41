"""Detection of leaks: series, patients or candidates of the test data that a model was trained or selected on."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.same_scans.groups import not_compared, same_scans_across

NUM_HASH_DIGITS = 12

LeakState: TypeAlias = Literal["clean", "leak", "unknown"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SeenData:
    """Data that a model was trained or selected on.

    Attributes:
        model: Name and version: ``nodule_classifier 0.0.1``.
        training_series: Series of the training data.
        validation_series: Series on which weights, threshold and calibration were chosen.
        inherited_series: Training and validation series of the initial weights.
        training_candidate_ids: Candidates of the training data, int64 (N,).
        is_origin_known: Whether this is all training data; false for weights, or initial weights, of unknown origin.
    """

    model: str
    training_series: Collection[str]
    validation_series: Collection[str] = ()
    inherited_series: Collection[str] = ()
    training_candidate_ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    is_origin_known: bool = True

    @property
    def series(self) -> set[str]:
        """All series of training, validation and initial weights."""
        return {*self.training_series, *self.validation_series, *self.inherited_series}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """Leaks and checks that were not possible.

    Attributes:
        lines: One line for each kind of leak; empty without leaks.
        num_unknown_patients: Number of series, seen or tested, without a patient hash or no longer in the table of
            folds. A patient shared by such series is not detected.
        num_series: Number of series, seen or tested.
        is_origin_known: Whether all training data of the model are known.
        num_not_compared: Number of series, seen or tested, that the search of same scans could not read.
    """

    lines: tuple[str, ...]
    num_unknown_patients: int
    num_series: int
    is_origin_known: bool = True
    num_not_compared: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether there is no leak and the training data are known."""
        return not self.lines and self.is_origin_known

    @property
    def state(self) -> LeakState:
        """``leak`` for a leak; ``unknown`` where none is found but training data, patients or scans are not known."""
        if self.lines:
            return "leak"
        is_known = self.is_origin_known and not self.num_unknown_patients and not self.num_not_compared
        return "clean" if is_known else "unknown"

    def __str__(self) -> str:
        found = " ".join(self.lines) or "No leak found."
        if not self.is_origin_known:
            found += " Its weights come from elsewhere: what they have seen is not known."
        if self.num_not_compared:
            found += f" Not compared with other scans: {self.num_not_compared} of {self.num_series} series."
        return f"{found} Patients unknown of {self.num_unknown_patients} of {self.num_series} series."

    def refuse(self) -> None:
        """Raise an error if there is a leak.

        Raises:
            ValueError: With all lines.
        """
        if self.lines:
            raise ValueError("\n".join(self.lines))


def leaks_of(
    seen: SeenData, *, test: pd.DataFrame, folds: pd.DataFrame, same_scans: pd.DataFrame | None = None
) -> LeakReport:
    """Return the leaks between a model's training data and its test data.

    Args:
        seen: Training and validation data of the model.
        test: One row per test candidate: ``candidate_id``, ``series_instance_uid``, ``fold``.
        folds: Table of folds: ``series_instance_uid``, ``patient_hash``; null is an unknown patient, equal to no other.
        same_scans: Pairs of series that show the same scan, or a block of it, by their voxels (``find_same_scans``);
            None if they were not searched.

    Returns:
        The report. Patients are named by the first 12 digits of their hash.
    """
    rows = test.drop_duplicates("series_instance_uid")
    fold_of = {str(uid): int(fold) for uid, fold in zip(rows["series_instance_uid"], rows["fold"], strict=True)}
    known = folds.dropna(subset=["patient_hash"])
    seen_patients = set(known.loc[known["series_instance_uid"].isin(seen.series), "patient_hash"])
    tested = known[known["series_instance_uid"].isin(fold_of)].set_index("patient_hash")["series_instance_uid"]

    lines = []
    if series := sorted(seen.series & set(fold_of)):
        lines.append(_line(seen, "series that it has seen", len(series), f"{series[0]} of fold {fold_of[series[0]]}"))
    if patients := sorted(seen_patients & set(tested.index)):
        uid = tested.loc[[patients[0]]].iloc[0]
        first = f"patient {patients[0][:NUM_HASH_DIGITS]} with series {uid} of fold {fold_of[uid]}"
        lines.append(_line(seen, "patients that it has seen", len(patients), first))
    if copies := same_scans_across(same_scans, seen.series, fold_of):
        uid, seen_uid, relation = copies[0]
        first = f"{uid} of fold {fold_of[uid]} is {relation} {seen_uid}"
        lines.append(_line(seen, "the same scans under other names that it has seen", len(copies), first))
    learned = test.loc[test["candidate_id"].isin(seen.training_candidate_ids)]
    if len(learned):
        row = learned.iloc[0]
        first = f"{row['candidate_id']} of series {row['series_instance_uid']}, fold {row['fold']}"
        lines.append(_line(seen, "candidates that it has learned from", len(learned), first))
    everything = seen.series | set(fold_of)
    return LeakReport(
        lines=tuple(lines),
        num_unknown_patients=len(everything - set(known["series_instance_uid"])),
        num_series=len(everything),
        is_origin_known=seen.is_origin_known,
        num_not_compared=len(not_compared(same_scans, everything)),
    )


def _line(seen: SeenData, kind: str, number: int, first: str) -> str:
    return (
        f"A model must not be tested on {kind}, got {number} (the first {first}; {seen.model}). "
        "Leave it out, or train it with this test fold held out."
    )
