"""Data sets of cutouts: rows of the index, whose voxels are gathered for a whole batch."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from luna_pipeline.core.candidates.series_codes import rows_by_series, series_codes
from luna_pipeline.core.cutouts.chunks import Chunks
from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.datasets.buffer_pool import BufferPool
from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.ratios import Draws
from luna_pipeline.core.datasets.sample_set import identity
from luna_pipeline.core.datasets.splits import index_fingerprint

__all__ = ["UNKNOWN", "CutoutsDataset", "MalignantCutoutsDataset", "identity"]

UNKNOWN = -1
"""Group of a row whose group is unknown."""


class CutoutsDataset(Dataset[CutoutBatch]):
    """Unmodified cutouts, each row once: nodules against everything else.

    Evaluation uses it directly. For training a ``RatioSampler`` draws from it and an ``Augmenter`` changes the batches.
    An item is a batch of one; a ``DataLoader`` requests whole batches (``collate_fn=identity``).

    Attributes:
        name: Name in a configuration.
        group_names: Groups of candidates in sampling; the last one is the positive class.
        label_names: Names of label 0 and label 1.
        index: The rows, in the order of the items.
        groups: Number of each row's group in ``group_names``, int64 (N,).
        labels: 1 for the last group, 0 for the others, int64 (N,).
        candidate_id: int64 (N,).
        series: Series of the rows, sorted.
        chunk_shape_irc: Voxels of each cutout.
    """

    name: ClassVar[str] = "cutouts"
    group_names: ClassVar[tuple[str, ...]] = ("non_nodule", "nodule")
    label_names: ClassVar[tuple[str, str]] = ("non_nodule", "nodule")

    def __init__(self, index: pd.DataFrame, store: CutoutSource) -> None:
        """Check the index against the cutouts.

        Args:
            index: ``candidate_id``, ``series_instance_uid``, ``row``, ``class``, ``is_malignant``, ``fold``,
                ``fingerprint``; at least one row, all of known groups, see `usable`.
            store: Store of the cutouts, or ``UncutSeries`` to cut on the fly.

        Raises:
            ValueError: If there is no row, a value is missing, a class is neither 0 nor 1, a group is unknown, or the
                cutouts of a series are not those of the index.
            FileNotFoundError: If a series was not cut.
        """
        _check_values(index)
        self.index = index.reset_index(drop=True)
        self.groups = self._known_groups()
        self.labels: NDArray[np.int64] = (self.groups == len(self.group_names) - 1).astype(np.int64)
        self.candidate_id = self.index["candidate_id"].to_numpy(dtype=np.int64)
        self._rows = self.index["row"].to_numpy(dtype=np.int64)
        codes, self.series = series_codes(self.index["series_instance_uid"])
        self._series_of_row: NDArray[np.int64] = codes.astype(np.int64)
        self._store = store
        self._chunks_of_series: list[Chunks] = []
        self._buffer_pool = BufferPool()
        self.chunk_shape_irc = self._check_files()

    @classmethod
    def usable(cls, index: pd.DataFrame) -> pd.DataFrame:
        """Return the rows whose group is known."""
        rows: pd.DataFrame = index[cls._checked_groups(index) != UNKNOWN]
        return rows

    @classmethod
    def groups_of(cls, index: pd.DataFrame) -> NDArray[np.int64]:
        """Return the number of each row's group in ``group_names``, int64 (N,), or ``UNKNOWN``."""
        return (index["class"] == 1).to_numpy(dtype=bool, na_value=False).astype(np.int64)

    @classmethod
    def _checked_groups(cls, index: pd.DataFrame) -> NDArray[np.int64]:
        """Return the groups of `groups_of`; others than whole numbers of a group for each row are a ValueError."""
        groups, last = np.asarray(cls.groups_of(index)), len(cls.group_names) - 1
        rule = f"Groups must be whole numbers from {UNKNOWN} to {last} for each of {len(index)} rows"
        is_numbers = groups.dtype.kind in "biuf" and groups.shape == (len(index),)
        if not is_numbers or not np.isin(groups, np.arange(UNKNOWN, last + 1)).all():
            got = f"{np.unique(groups).tolist()!r:.80}" if is_numbers else f"{groups.dtype} {groups.shape}"
            name = DATASETS.name_of(cls) or cls.__name__
            raise ValueError(f'{rule}, got {got} (data set "{name}"). Fix its groups_of, see docs/how_to/extend.md.')
        return groups.astype(np.int64)

    @property
    def origin(self) -> str:
        """Folder or address that the voxels are read from."""
        return self._store.origin

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample in a batch."""
        return 4 * math.prod(self.chunk_shape_irc)

    @property
    def fingerprint(self) -> str:
        """Digest of rows, labels and cutouts, 64 hexadecimal digits."""
        return index_fingerprint(self.index)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> CutoutBatch:
        return self.__getitems__([position])

    def __getitems__(self, wanted: Sequence[int] | Draws) -> CutoutBatch:
        """Return the batch of these positions, in their order."""
        if not isinstance(wanted, Draws):
            positions = np.asarray(wanted, dtype=np.int64)
            wanted = Draws(positions=positions, repeats=np.zeros_like(positions), num_in_step=len(positions))
        return CutoutBatch(
            chunks_hu=self._gather(wanted.positions),
            labels=torch.from_numpy(self.labels[wanted.positions]),
            candidate_id=torch.from_numpy(self.candidate_id[wanted.positions]),
            groups=torch.from_numpy(self.groups[wanted.positions]),
            repeat=torch.from_numpy(wanted.repeats.copy()),
            num_in_step=wanted.num_in_step,
        )

    def __getstate__(self) -> dict[str, object]:
        """Leave the mapped files out: a worker maps them itself."""
        return {**self.__dict__, "_chunks_of_series": [], "_buffer_pool": BufferPool()}

    def _gather(self, positions: NDArray[np.int64]) -> torch.Tensor:
        """Return the voxels (N, 1, I, R, C) of these rows."""
        if not self._chunks_of_series:
            self._chunks_of_series = [self._store.read(uid).ct_chunks for uid in self.series]
        chunks_hu = self._buffer_pool.empty((len(positions), 1, *self.chunk_shape_irc))
        values: NDArray[np.float32] = chunks_hu.numpy()
        series, rows = self._series_of_row[positions].tolist(), self._rows[positions].tolist()
        for place, (code, row) in enumerate(zip(series, rows, strict=True)):
            # Copied and converted in one step, from the mapped file into the batch.
            values[place, 0] = self._chunks_of_series[code][row]
        return chunks_hu

    def _known_groups(self) -> NDArray[np.int64]:
        groups = self._checked_groups(self.index)
        if (is_unknown := groups == UNKNOWN).any():
            uid = self.index.loc[is_unknown, "series_instance_uid"].iloc[0]
            msg = f"Every candidate must be {', '.join(self.group_names[:-1])} or {self.group_names[-1]}, got "
            msg += f"{int(is_unknown.sum())} of which it is not known (the first of series {uid})."
            raise ValueError(f"{msg} Leave them out with {type(self).__name__}.usable.")
        return groups

    def _check_files(self) -> tuple[int, int, int]:
        """Open all series and compare them with the index, so that no error occurs in mid-epoch; return the shape."""
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
                raise ValueError(f"{msg} Run `luna create_cutouts`, or the jobs `cut` and `index`.")
            shapes[cutouts.ct_chunks.shape[1:]] = uid
            self._chunks_of_series.append(cutouts.ct_chunks)
        if len(shapes) > 1:
            found = ", ".join(f"{shape} (series {uid})" for shape, uid in shapes.items())
            msg = f"All cutouts must have one shape, got {found}. Run the job `cut` with one set of parameters."
            raise ValueError(msg)
        ((index, row, col),) = shapes
        return (index, row, col)


class MalignantCutoutsDataset(CutoutsDataset):
    """Malignant nodules against benign nodules and non-nodules; unrated nodules are unknown."""

    name: ClassVar[str] = "malignant_cutouts"
    group_names: ClassVar[tuple[str, ...]] = ("non_nodule", "benign", "malignant")
    label_names: ClassVar[tuple[str, str]] = ("not_malignant", "malignant")

    @classmethod
    def groups_of(cls, index: pd.DataFrame) -> NDArray[np.int64]:
        """Return 0 for non-nodules, 1 for benign and 2 for malignant nodules, ``UNKNOWN`` for unrated ones."""
        is_nodule = super().groups_of(index) == 1
        rating = index["is_malignant"].astype("Int8").to_numpy(dtype=np.int64, na_value=-2)
        groups: NDArray[np.int64] = np.where(is_nodule, rating + 1, 0)
        return groups

    @property
    def fingerprint(self) -> str:
        """Digest of rows, labels including malignancy, and cutouts, 64 hexadecimal digits."""
        return index_fingerprint(self.index.assign(group=self.groups), labels=("class", "group"))


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
