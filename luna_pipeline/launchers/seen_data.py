"""Data that a classifier has seen, according to its checkpoint."""

import pandas as pd

from luna_pipeline.core.evaluation.leaks import LeakReport, SeenData, leaks_of
from luna_pipeline.core.training.checkpoints import Checkpoint


def seen_data(checkpoint: Checkpoint) -> SeenData:
    """Return the training and validation data of a classifier and of the one with its initial weights."""
    return SeenData(
        model=f"{checkpoint.name} {checkpoint.version}",
        training_series=checkpoint.training_series,
        validation_series=checkpoint.validation_series,
        inherited_series=[*checkpoint.inherited_training_series, *checkpoint.inherited_validation_series],
        training_candidate_ids=checkpoint.training_candidate_ids.numpy(),
        is_origin_known=not checkpoint.has_unknown_origin,
    )


def leaks_of_checkpoint(
    checkpoint: Checkpoint, test: pd.DataFrame, folds: pd.DataFrame, same_scans: pd.DataFrame | None
) -> LeakReport:
    """Compare the data that a classifier has seen with its test data, by series, patient, scan and candidate.

    Args:
        checkpoint: The classifier.
        test: ``candidate_id``, ``series_instance_uid``, ``fold``.
        folds: The table of folds.
        same_scans: The table of same scans, None if they were not searched (``read_same_scans``).
    """
    return leaks_of(seen_data(checkpoint), test=test, folds=folds, same_scans=same_scans)


def unseen_fold(checkpoint: Checkpoint, index: pd.DataFrame) -> int:
    """Return the fold without series that a classifier has seen in training or validation.

    Args:
        checkpoint: The classifier.
        index: Rows of the cutout index.

    Raises:
        ValueError: If there is none or more than one.
    """
    is_seen = index["series_instance_uid"].isin(seen_data(checkpoint).series)
    unseen = sorted(int(fold) for fold in set(index["fold"]) - set(index.loc[is_seen, "fold"]))
    if len(unseen) != 1:
        msg = f"One fold must be unseen by the classifier, got {unseen} ({checkpoint.name} {checkpoint.version})."
        raise ValueError(f"{msg} Train it on the current folds.")
    return unseen[0]
