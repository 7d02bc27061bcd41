"""Training and validation data of a run, as trackers list them."""

from collections.abc import Iterator

import numpy as np

from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.events.messages import Mode
from luna_pipeline.tracking.mlflow_inputs import DataInput


def data_inputs(data: DataModule, *, name: str) -> Iterator[DataInput]:
    """Yield the parts of a run's data.

    Args:
        data: Training and validation data.
        name: Name of the data set in ``DATASETS``.
    """
    for role, part in ((Mode.TRAINING, data.training), (Mode.VALIDATION, data.validation)):
        if part is None:
            continue
        counts = np.bincount(part.groups, minlength=len(part.group_names))
        groups = {f"num_{group}": int(count) for group, count in zip(part.group_names, counts, strict=True)}
        folds = sorted(int(fold) for fold in part.index["fold"].unique())
        yield DataInput(
            role=str(role),
            name=name,
            digest=part.fingerprint,
            source=part.origin,
            num_rows=len(part),
            numbers={"num_series": len(part.series), **groups, "folds": folds},
        )
