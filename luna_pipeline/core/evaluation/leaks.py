"""What a model has seen must not be what it is tested on: no series, no patient, no candidate."""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NUM_HASH_DIGITS = 12


def _no_candidates() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SeenData:
    """What went into a model: what it learned from, and what it was chosen by.

    Attributes:
        model: Its name and version: ``nodule_classifier 0.0.1``.
        training_series: Series that its weights have learned from.
        validation_series: Series by which weights, threshold and calibration were chosen.
        inherited_series: Series that the weights it began with have learned from, or by which those were chosen.
        training_candidate_ids: Candidates that its weights have learned from, int64 (N,).
        is_origin_known: Whether all that its weights have learned from is among these; not where they, or those that
            they began with, come from elsewhere.
    """

    model: str
    training_series: Collection[str]
    validation_series: Collection[str] = ()
    inherited_series: Collection[str] = ()
    training_candidate_ids: NDArray[np.int64] = field(default_factory=_no_candidates)
    is_origin_known: bool = True

    @property
    def series(self) -> set[str]:
        """All series, whatever they were for."""
        return {*self.training_series, *self.validation_series, *self.inherited_series}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """The leaks that were found, and checks that were not possible.

    Attributes:
        lines: A line for each kind of leak; none where none was found.
        num_unknown_patients: Series, seen or tested, whose patient is not known: one without a hash, or that is no
            longer in the table of folds. They may share a patient, which then goes unseen.
        num_series: Series that were looked at, seen or tested.
        is_origin_known: Whether all that the model has seen could be looked at.
    """

    lines: tuple[str, ...]
    num_unknown_patients: int
    num_series: int
    is_origin_known: bool = True

    @property
    def is_clean(self) -> bool:
        """Whether there is no leak and every check was possible."""
        return not self.lines and self.is_origin_known

    def __str__(self) -> str:
        found = " ".join(self.lines) or "No leak found."
        if not self.is_origin_known:
            found += " Its weights come from elsewhere: what they have seen is not known."
        return f"{found} Patients unknown of {self.num_unknown_patients} of {self.num_series} series."

    def refuse(self) -> None:
        """Do nothing where there is no leak.

        Raises:
            ValueError: All lines, if there is one.
        """
        if self.lines:
            raise ValueError("\n".join(self.lines))


def leaks_of(seen: SeenData, *, test: pd.DataFrame, folds: pd.DataFrame) -> LeakReport:
    """Compare what a model has seen with what it is tested on.

    Args:
        seen: What went into the model.
        test: Candidates that it is tested on, a row each: ``candidate_id``, ``series_instance_uid``, ``fold``.
        folds: The table of folds: ``series_instance_uid``, ``patient_hash``; null is an unknown patient, which equals
            no other.

    Returns:
        The report; patients are named by the first 12 digits of their hash.
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
    learned = test.loc[test["candidate_id"].isin(seen.training_candidate_ids)]
    if len(learned):
        row = learned.iloc[0]
        first = f"{row['candidate_id']} of series {row['series_instance_uid']}, fold {row['fold']}"
        lines.append(_line(seen, "candidates that it has learned from", len(learned), first))
    everything = seen.series | set(fold_of)
    num_unknown = len(everything - set(known["series_instance_uid"]))
    return LeakReport(
        lines=tuple(lines),
        num_unknown_patients=num_unknown,
        num_series=len(everything),
        is_origin_known=seen.is_origin_known,
    )


def _line(seen: SeenData, kind: str, number: int, first: str) -> str:
    return (
        f"A model must not be tested on {kind}, got {number} (the first {first}; {seen.model}). "
        "Leave it out, or train it with this test fold held out."
    )
