"""Data sets that an MLflow run reads: where they are and how many rows they have, without their contents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luna_pipeline.tracking.mlflow_run import MlflowRun

# MLflow allows 36 characters; these tell data sets apart and fit into a column of its page.
DIGEST_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class DataInput:
    """A data set of a run.

    Attributes:
        role: ``training``, ``validation`` or ``test``.
        name: Kind of the data set, a name in ``DATASETS``.
        digest: Digest of its rows, labels and voxels, 64 hexadecimal digits.
        source: Folder or address of what it was made of.
        num_rows: Number of rows.
        numbers: Further numbers, and the folds.
    """

    role: str
    name: str
    digest: str
    source: str
    num_rows: int
    numbers: Mapping[str, object] = field(default_factory=dict)


def log_inputs(run: MlflowRun, inputs: Sequence[DataInput]) -> None:
    """Name data sets as inputs of a run; repeated ones are logged once."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if not inputs:
        return
    datasets = [
        DatasetInput(
            Dataset(
                name=each.name,
                digest=each.digest[:DIGEST_LENGTH],
                source_type="s3" if each.source.startswith("s3://") else "local",
                source=json.dumps({"uri": each.source}),
                profile=json.dumps({"num_rows": each.num_rows, **each.numbers}),
            ),
            tags=[InputTag("mlflow.data.context", each.role)],
        )
        for each in inputs
    ]
    run.client.log_inputs(run.run_id, datasets=datasets)
