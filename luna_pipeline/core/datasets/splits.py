"""Split of the cutout index into training, validation and test by the folds of the series."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.datasets.config import DATASETS


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSplit:
    """The folds that are held out of training.

    Attributes:
        test_fold: Fold for the final test; nothing is chosen with it.
        validation_fold: Fold that determines epoch and threshold; None for none.
    """

    test_fold: int
    validation_fold: int | None

    def __post_init__(self) -> None:
        if self.test_fold == self.validation_fold:
            msg = f"Test and validation must be two folds, got {self.test_fold} for both. Choose another fold for one."
            raise ValueError(msg)


def default_split(
    index: pd.DataFrame, *, test_fold: int | None = None, validation_fold: int | None = None
) -> TrainingSplit:
    """Return the split with defaults for the folds that are None.

    Args:
        index: Rows of the cutout index, with the column ``fold``.
        test_fold: None for the first fold.
        validation_fold: None for the fold after the test fold (after the last one the first), or no validation if there
            are only two folds.

    Raises:
        ValueError: If there is only one fold.
    """
    folds = sorted({int(fold) for fold in index["fold"]})
    if len(folds) < 2:
        msg = f"Training and test need at least two folds, got {folds}. Add CTs, or folds for the ones there are."
        raise ValueError(msg)
    test = folds[0] if test_fold is None else test_fold
    if validation_fold is None and len(folds) > 2:
        validation_fold = next((fold for fold in folds if fold > test), folds[0])
    return TrainingSplit(test_fold=test, validation_fold=validation_fold)


def split_index(
    index: pd.DataFrame, split: TrainingSplit, *, use_annotations: bool = False, dataset: str = "cutouts"
) -> tuple[pd.DataFrame, pd.DataFrame | None, pd.DataFrame]:
    """Return the rows for training, validation (None without a validation fold) and test.

    Validation and test contain detected candidates only, as in an unseen CT: annotated centres would reveal their label
    by being exactly in the middle.

    Args:
        index: Rows of the cutout index: ``candidate_id``, ``series_instance_uid``, ``class``, ``fold``, ``source``.
        split: The folds held out of training.
        use_annotations: Whether training includes the annotated centres.
        dataset: Data set that the rows are for, a name in ``DATASETS``. Where all candidates are nodules, as in LUNA25,
            training must hold both of its classes.

    Raises:
        ValueError: If a series lies in two folds, a held-out fold does not exist, or training lacks a class.
    """
    check_one_fold_per_series(index)
    is_held_out = check_held_out_folds(index, split)
    folds = index["fold"].to_numpy(dtype=np.int64)
    is_candidate = (index["source"] == "candidate").to_numpy(dtype=bool)
    training = index[~is_held_out & (is_candidate | use_annotations)]
    test = index[(folds == split.test_fold) & is_candidate]
    validation = None
    if split.validation_fold is not None:
        validation = index[(folds == split.validation_fold) & is_candidate]
    _check_both_classes(training, dataset)
    return training, validation, test


def index_fingerprint(index: pd.DataFrame, *, labels: Sequence[str] = ("class",)) -> str:
    """Return a SHA-256 (64 hexadecimal digits) of rows of the index in any order: ids, labels, folds, cutouts.

    Args:
        index: Rows with ``candidate_id``, ``fold``, ``fingerprint`` and the labels.
        labels: Integer columns with labels.
    """
    ordered = index.sort_values(["candidate_id", "fingerprint"], kind="stable")
    digest = hashlib.sha256(str(len(ordered)).encode())
    for column in ("candidate_id", *labels, "fold"):
        digest.update(ordered[column].to_numpy(dtype="<i8").tobytes())
    digest.update("\n".join(ordered["fingerprint"]).encode())
    return digest.hexdigest()


def fold_fingerprint(index: pd.DataFrame, fold: int) -> str:
    """Return a SHA-256 (64 hexadecimal digits) of the scored candidates of a fold, with labels and cutouts."""
    rows = index[(index["fold"] == fold) & (index["source"] == "candidate")]
    rating = rows["is_malignant"].astype("Int8").fillna(-1).astype(np.int64)
    return index_fingerprint(rows.assign(rating=rating), labels=("class", "rating"))


def check_held_out_folds(index: pd.DataFrame, split: TrainingSplit) -> NDArray[np.bool_]:
    """Return which rows are of a held-out fold, bool (N,); a fold that does not exist is a ValueError."""
    folds = index["fold"].to_numpy(dtype=np.int64)
    held_out = [fold for fold in (split.test_fold, split.validation_fold) if fold is not None]
    if missing := sorted(set(held_out) - set(folds.tolist())):
        msg = f"A held-out fold must exist, got {missing[0]} of folds {sorted(set(folds.tolist()))}."
        raise ValueError(f"{msg} Choose one of them.")
    return np.isin(folds, held_out)


def check_one_fold_per_series(index: pd.DataFrame) -> None:
    """Raise a ValueError if a series lies in two folds."""
    num_folds = index.groupby("series_instance_uid", observed=True)["fold"].nunique(dropna=False)
    if (several := num_folds[num_folds > 1]).size:
        uid = several.index[0]
        folds = sorted(index.loc[index["series_instance_uid"] == uid, "fold"].unique())
        msg = (
            f"Fold must be one per series, got {[int(fold) for fold in folds]} (series {uid}, and {several.size - 1} "
            "more). Materialize `folds` and `cutout_index` again."
        )
        raise ValueError(msg)


def _check_both_classes(training: pd.DataFrame, dataset: str) -> None:
    num_nodules = int((training["class"] == 1).sum())
    is_one_class = num_nodules in (0, len(training))
    if is_one_class and not (num_nodules and _has_both_classes_of(dataset, training)):
        msg = (
            f"Training must hold candidates of both classes, got {num_nodules} nodules and "
            f"{len(training) - num_nodules} others. Choose other folds or add CTs."
        )
        raise ValueError(msg)


def _has_both_classes_of(dataset: str, training: pd.DataFrame) -> bool:
    """Return whether nodules alone hold both classes of a data set: its last group, and another one."""
    if dataset == "cutouts":
        return False
    kind = DATASETS.get(dataset)
    groups = kind.groups_of(kind.usable(training))
    num_positive = int((groups == len(kind.group_names) - 1).sum())
    return 0 < num_positive < len(groups)
