"""What the data loaders of a run need of a data set."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.datasets.ratios import Draws


class SampleSet(Protocol):
    """A data set whose items are batches, such as ``CutoutsDataset`` and ``NoduleMasksDataset``.

    Attributes:
        index: Rows, in the order of the items.
        groups: Number of each row's group in ``group_names``, int64 (N,).
        labels: 1 for the last group, 0 for the others, int64 (N,).
        candidate_id: int64 (N,).
        series: Series of the rows, sorted.
        chunk_shape_irc: Voxels of a sample.
    """

    index: pd.DataFrame
    groups: NDArray[np.int64]
    labels: NDArray[np.int64]
    candidate_id: NDArray[np.int64]
    series: list[str]
    chunk_shape_irc: tuple[int, int, int]

    @property
    def origin(self) -> str:
        """Folder or address that the voxels are read from."""

    @property
    def group_names(self) -> tuple[str, ...]:
        """Groups of rows in sampling."""

    @property
    def label_names(self) -> tuple[str, str]:
        """Names of label 0 and label 1."""

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample in a batch."""

    @property
    def fingerprint(self) -> str:
        """Digest of all that the samples are made of, 64 hexadecimal digits."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, position: int) -> Any:
        """Return a batch of one row."""

    def __getitems__(self, wanted: Sequence[int] | Draws) -> Any:
        """Return a batch of these rows."""


def identity(batch: Any) -> Any:
    """Return the batch, which the data set has already collated."""
    return batch
