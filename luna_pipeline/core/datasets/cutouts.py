"""Cutouts as a data set: rows of the index, voxels gathered for a whole batch from the mapped files."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from luna_pipeline.core.candidates.series_codes import rows_by_series, series_codes
from luna_pipeline.core.cutouts.chunks import Chunks
from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.datasets.augmentation import AugmentationConfig, draw_flips, flipped
from luna_pipeline.core.datasets.batch import CutoutBatch


class CutoutsDataset(Dataset[CutoutBatch]):
    """Cutouts as they are, every row once: what a model is judged by.

    An item is a batch of its own; a ``DataLoader`` asks for whole batches (``collate_fn=as_it_is``).

    Attributes:
        index: The rows, in the order of the items.
        labels: 1 nodule, 0 other, int64 (N,).
        candidate_id: int64 (N,).
        series: Series of the rows, sorted.
        chunk_shape_irc: Voxels of each cutout.
    """

    def __init__(self, index: pd.DataFrame, store: CutoutSource) -> None:
        """Take rows of the cutout index.

        Args:
            index: ``candidate_id``, ``series_instance_uid``, ``row``, ``class``, ``fingerprint``; at least
                one row.
            store: Where the cutouts lie; or the CTs that they are cut from on the fly (``UncutSeries``).

        Raises:
            ValueError: If there is no row, a value is missing, a class is neither 0 nor 1, or a file of
                cutouts is not the one that the index was made of.
            FileNotFoundError: If a series was not cut.
        """
        _check_values(index)
        self.index = index.reset_index(drop=True)
        self.labels = self.index["class"].to_numpy(dtype=np.int64)
        self.candidate_id = self.index["candidate_id"].to_numpy(dtype=np.int64)
        self._rows = self.index["row"].to_numpy(dtype=np.int64)
        codes, self.series = series_codes(self.index["series_instance_uid"])
        self._series_of_row: NDArray[np.int64] = codes.astype(np.int64)
        self._store = store
        self._chunks_of_series: list[Chunks] = []
        self.chunk_shape_irc = self._check_files()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> CutoutBatch:
        return self.__getitems__([position])

    def __getitems__(self, positions: Sequence[int]) -> CutoutBatch:
        """Return the cutouts at these positions, in their order."""
        chunks_hu = np.empty((len(positions), 1, *self.chunk_shape_irc), dtype=np.float32)
        for place, chunk in enumerate(self._gather(positions)):
            # Copied and converted in one go, from the mapped file straight into the batch.
            chunks_hu[place, 0] = chunk
        wanted = np.asarray(positions, dtype=np.int64)
        return CutoutBatch(
            chunks_hu=torch.from_numpy(chunks_hu),
            labels=torch.from_numpy(self.labels[wanted]),
            candidate_id=torch.from_numpy(self.candidate_id[wanted]),
        )

    def __getstate__(self) -> dict[str, object]:
        """Leave the mapped files out: a worker that is sent the data set maps them itself."""
        return {**self.__dict__, "_chunks_of_series": []}

    def _gather(self, positions: Sequence[int]) -> list[NDArray[np.int16]]:
        """Views (I, R, C) into the mapped files, or chunks that are cut on the fly."""
        if not self._chunks_of_series:
            self._chunks_of_series = [self._store.read(uid).ct_chunks for uid in self.series]
        return [self._chunks_of_series[self._series_of_row[position]][self._rows[position]] for position in positions]

    def _check_files(self) -> tuple[int, int, int]:
        """Map each file and compare it with the index: an unfit file must not show in mid-epoch."""
        shapes = {}
        fingerprints = pd.Categorical(self.index["fingerprint"])
        for uid, places in rows_by_series(self.index["series_instance_uid"]).items():
            cutouts, rows = self._store.read(uid), self._rows[places]
            is_same = rows.max() < len(cutouts.candidate_id) and np.array_equal(
                cutouts.candidate_id[rows], self.candidate_id[places]
            )
            digest = str(cutouts.header["fingerprints"]["digest"])
            if not is_same or set(fingerprints[places]) != {digest}:
                msg = f"The index must be made of the cutouts that are there, got others (series {uid})."
                raise ValueError(f"{msg} Run the job `cut` and materialize `cutout_index` again.")
            shapes[cutouts.ct_chunks.shape[1:]] = uid
            self._chunks_of_series.append(cutouts.ct_chunks)
        if len(shapes) > 1:
            found = ", ".join(f"{shape} (series {uid})" for shape, uid in shapes.items())
            msg = f"All cutouts must have one shape, got {found}. Run the job `cut` with one set of parameters."
            raise ValueError(msg)
        ((index, row, col),) = shapes
        return (index, row, col)


class TrainingCutoutsDataset(CutoutsDataset):
    """Cutouts with random changes, drawn anew each epoch: what a model learns from.

    Attributes:
        epoch: The epoch whose changes are drawn, from 1.
    """

    def __init__(
        self, index: pd.DataFrame, store: CutoutSource, *, augmentation: AugmentationConfig, seed: int
    ) -> None:
        """Take rows of the cutout index, see `CutoutsDataset`.

        Args:
            index: The rows.
            store: Where the cutouts lie.
            augmentation: What may happen to a cutout.
            seed: Seed of the run.
        """
        super().__init__(index, store)
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Draw the changes of this epoch from now on."""
        self.epoch = epoch

    def _gather(self, positions: Sequence[int]) -> list[NDArray[np.int16]]:
        flips = draw_flips(
            self.candidate_id[np.asarray(positions, dtype=np.int64)],
            seed=self.seed,
            epoch=self.epoch,
            probability=self.augmentation.flip_probability,
        )
        return [flipped(chunk, flip) for chunk, flip in zip(super()._gather(positions), flips, strict=True)]


def as_it_is(batch: Any) -> Any:
    """Return the batch: the data set has put it together already."""
    return batch


def _check_values(index: pd.DataFrame) -> None:
    columns = ["candidate_id", "series_instance_uid", "row", "class", "fingerprint"]
    if index.empty:
        msg = "A data set must hold at least one candidate, got none. Choose another fold or add CTs."
        raise ValueError(msg)
    if (missing := index[columns].isna().any(axis=1)).any():
        msg = f"Every row of the index must be complete, got {int(missing.sum())} rows with missing values"
        uid = index.loc[missing, "series_instance_uid"].iloc[0]
        raise ValueError(f"{msg} (the first of series {uid}). Materialize `cutout_index` again.")
    if not index["class"].isin([0, 1]).all():
        found = sorted(index["class"].unique().tolist())
        msg = f"Class must be 0 or 1, got {found}. Give 1 for nodules, 0 for others."
        raise ValueError(msg)
