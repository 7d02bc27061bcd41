"""Whether a classifier has seen what it is tested on, by what its checkpoint keeps."""

import pandas as pd

from luna_pipeline.core.evaluation.leaks import LeakReport, SeenData, leaks_of
from luna_pipeline.core.training.checkpoints import Checkpoint


def seen_data(checkpoint: Checkpoint) -> SeenData:
    """Return what went into a classifier, and into the one whose weights it began with."""
    return SeenData(
        model=f"{checkpoint.name} {checkpoint.version}",
        training_series=checkpoint.training_series,
        validation_series=checkpoint.validation_series,
        inherited_series=[*checkpoint.inherited_training_series, *checkpoint.inherited_validation_series],
        training_candidate_ids=checkpoint.training_candidate_ids.numpy(),
        is_origin_known=not checkpoint.has_unknown_origin,
    )


def leaks_of_checkpoint(checkpoint: Checkpoint, test: pd.DataFrame, folds: pd.DataFrame) -> LeakReport:
    """Compare what a classifier has seen with what it is tested on: series, patients, candidates.

    Args:
        checkpoint: The classifier.
        test: ``candidate_id``, ``series_instance_uid``, ``fold``.
        folds: The table of folds.
    """
    return leaks_of(seen_data(checkpoint), test=test, folds=folds)
