"""Data set of segmentation: crops of whole CTs with the masks of their nodules."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from luna_pipeline.core.candidates.matching import POINT_COLUMNS
from luna_pipeline.core.candidates.series_codes import series_codes
from luna_pipeline.core.datasets.buffer_pool import BufferPool
from luna_pipeline.core.datasets.crop_starts import drawn_start, start_around
from luna_pipeline.core.datasets.mask_places import PLACE_GROUPS
from luna_pipeline.core.datasets.nodule_masks import BallMasks, NoduleMasks
from luna_pipeline.core.datasets.ratios import Draws
from luna_pipeline.core.datasets.splits import index_fingerprint
from luna_pipeline.core.datasets.volumes import CtVolumes, Volume
from luna_pipeline.core.networks.segmenters import WINDOW_HU

_NODULE = len(PLACE_GROUPS) - 1
_NUMBERS = [*POINT_COLUMNS, "diameter_mm", "scan_share"]


class MaskBatch(NamedTuple):
    """Crops of one training or evaluation step, see ``CutoutBatch``.

    Attributes:
        chunks_hu: HU within ``WINDOW_HU``, float32 (N, 1, I, R, C); air outside the CT.
        labels: 1 if the predicted part of the crop holds a nodule's voxel, int64 (N,).
        candidate_id: Id of the place, int64 (N,).
        groups: Number of the place's group in ``PLACE_GROUPS``, int64 (N,).
        repeat: Number of earlier draws of the place in the epoch, int64 (N,); ``FILLER`` for a sample to ignore.
        num_in_step: Samples of the whole optimizer step in all processes.
        masks: 1 for voxels of nodules, float32 (N, 1, I, R, C).
        scan_share: Share in the number of false candidates a scan, float32 (N,).
    """

    chunks_hu: torch.Tensor
    labels: torch.Tensor
    candidate_id: torch.Tensor
    groups: torch.Tensor
    repeat: torch.Tensor
    num_in_step: int
    masks: torch.Tensor
    scan_share: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class CropSource:
    """Where crops are cut, and how.

    Attributes:
        volumes: The CTs.
        shape_irc: Voxels of a crop.
        context_slices: Of a slice network, whose middle slice is predicted; 0 for a volume network.
        seed: Seed of the positions in training.

    Raises:
        ValueError: If a crop holds fewer slices than a slice network sees.
    """

    volumes: CtVolumes
    shape_irc: tuple[int, int, int]
    context_slices: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.context_slices and self.shape_irc[0] <= 2 * self.context_slices:
            num_slices = 2 * self.context_slices + 1
            msg = f"Crops of a slice network must hold the {num_slices} slices that it sees, got {self.shape_irc}."
            raise ValueError(f"{msg} Set network.chunk_shape_irc to {num_slices} slices.")


class NoduleMasksDataset(Dataset[MaskBatch]):
    """Crops around places, with the nodules in them as balls of the annotated diameter.

    In training a crop's position is random, drawn by (seed, epoch, place, repeat): a nodule or look-alike lies anywhere
    in its middle part, a place of the body anywhere in the scan. In evaluation the place is the middle voxel.

    Attributes:
        index: Places (``find_places``), in the order of the items.
        groups: Group of each place, int64 (N,).
        labels: 1 for nodules, int64 (N,).
        candidate_id: int64 (N,).
        series: Series of the places, sorted.
        chunk_shape_irc: Voxels of each crop.
    """

    name: ClassVar[str] = "nodule_masks"
    group_names: ClassVar[tuple[str, ...]] = PLACE_GROUPS
    label_names: ClassVar[tuple[str, str]] = ("no_nodule", "nodule")

    def __init__(self, index: pd.DataFrame, store: CropSource) -> None:
        """Open all CTs.

        Args:
            index: Rows of ``find_places``; at least one.
            store: The CTs and the form of the crops.

        Raises:
            ValueError: If there is no row.
            UnreadableCtError: If a CT cannot be read.
        """
        if index.empty:
            msg = "A data set must hold at least one place, got none. Choose another fold or add CTs."
            raise ValueError(msg)
        self.index = index.reset_index(drop=True)
        self.groups = self.index["group"].to_numpy(dtype=np.int64)
        self.labels: NDArray[np.int64] = (self.groups == _NODULE).astype(np.int64)
        self.candidate_id = self.index["candidate_id"].to_numpy(dtype=np.int64)
        codes, self.series = series_codes(self.index["series_instance_uid"])
        self._series_of_row: NDArray[np.int64] = codes.astype(np.int64)
        self.chunk_shape_irc = store.shape_irc
        self._store = store
        self._volumes: list[Volume] = []
        self._buffer_pool = BufferPool()
        self._open()
        self._masks: list[NoduleMasks] = [self._balls(code) for code in range(len(self.series))]
        # Center and radius of each place in voxels of its view.
        self._center_irc, self._reach_irc = self._in_voxels()
        # Tiles of all scans together count as one scan.
        self._scan_share = (self.index["scan_share"] / len(self.series)).to_numpy(dtype=np.float32)
        self._is_drawn = (self.index["source"] == "body").to_numpy(dtype=bool)

    @property
    def origin(self) -> str:
        """Folder of the CTs."""
        return str(self._store.volumes.data_root)

    @classmethod
    def usable(cls, index: pd.DataFrame) -> pd.DataFrame:
        """Return all rows."""
        return index

    @property
    def sample_bytes(self) -> int:
        """Bytes of a crop and its mask in a batch."""
        return 8 * math.prod(self.chunk_shape_irc)

    @property
    def fingerprint(self) -> str:
        """Digest of CTs, places and diameters, 64 hexadecimal digits."""
        rows = self.index.sort_values("candidate_id", kind="stable")
        digest = hashlib.sha256(index_fingerprint(rows, labels=("class", "group")).encode())
        digest.update(rows[_NUMBERS].to_numpy(dtype="<f8").tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> MaskBatch:
        return self.__getitems__([position])

    def __getitems__(self, wanted: Sequence[int] | Draws) -> MaskBatch:
        """Return the batch of these positions, in their order."""
        if not isinstance(wanted, Draws):
            positions = np.asarray(wanted, dtype=np.int64)
            wanted = Draws(positions=positions, repeats=np.zeros_like(positions), num_in_step=len(positions))
        if not self._volumes:
            self._open()
        shape = (len(wanted.positions), 1, *self.chunk_shape_irc)
        chunks_hu, masks = self._buffer_pool.empty(shape), self._buffer_pool.empty(shape)
        crops, truths = chunks_hu.numpy(), masks.numpy()
        for place, (row, repeat) in enumerate(zip(wanted.positions.tolist(), wanted.repeats.tolist(), strict=True)):
            code = self._series_of_row[row]
            start = self._start(row, max(repeat, 0), wanted.epoch)
            repeats_slices = self._store.context_slices > 0
            fill_crop(crops[place, 0], self._volumes[code].hounsfield, start, repeats_slices=repeats_slices)
            truths[place, 0] = self._masks[code].mask(start, self.chunk_shape_irc)
        middle = self.chunk_shape_irc[0] // 2
        predicted = masks[:, :, middle] if self._store.context_slices else masks
        return MaskBatch(
            chunks_hu=chunks_hu,
            labels=predicted.flatten(1).any(1).long(),
            candidate_id=torch.from_numpy(self.candidate_id[wanted.positions]),
            groups=torch.from_numpy(self.groups[wanted.positions]),
            repeat=torch.from_numpy(wanted.repeats.copy()),
            num_in_step=wanted.num_in_step,
            masks=masks,
            scan_share=torch.from_numpy(self._scan_share[wanted.positions]),
        )

    def __getstate__(self) -> dict[str, object]:
        """Leave the mapped files out: a worker maps them itself."""
        return {**self.__dict__, "_volumes": [], "_buffer_pool": BufferPool()}

    def _start(self, row: int, repeat: int, epoch: int) -> NDArray[np.int64]:
        """Return the first voxel of a crop."""
        center_irc, shape_irc = self._center_irc[row], np.asarray(self.chunk_shape_irc)
        if epoch == 0:
            return start_around(center_irc, shape_irc)
        key = [self._store.seed, epoch, int(self.candidate_id[row]) & (2**64 - 1), repeat]
        rng = np.random.default_rng(key)
        if self._is_drawn[row]:
            return drawn_start(rng, self._volumes[self._series_of_row[row]].hounsfield, shape_irc)
        # A middle slice beyond the nodule would show nothing of it.
        largest_irc = 3 * shape_irc // 8
        if self._store.context_slices:
            largest_irc[0] = min(largest_irc[0], int(self._reach_irc[row]))
        return start_around(center_irc + rng.integers(-largest_irc, largest_irc, endpoint=True), shape_irc)

    def _open(self) -> None:
        self._volumes = [self._store.volumes.read(uid) for uid in self.series]

    def _balls(self, code: int) -> BallMasks:
        rows = self.index[(self._series_of_row == code) & (self.groups == _NODULE)]
        centers, diameters = rows[POINT_COLUMNS].to_numpy(float), rows["diameter_mm"].to_numpy(float)
        return BallMasks.of_annotations(centers, diameters, self._volumes[code].grid)

    def _in_voxels(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the voxel of each place (N, 3) and its radius in slices (N,)."""
        centers, points = np.empty((len(self), 3), dtype=np.int64), self.index[POINT_COLUMNS].to_numpy(float)
        reach = self.index["diameter_mm"].fillna(0).to_numpy(float) / 2
        for code, volume in enumerate(self._volumes):
            rows = self._series_of_row == code
            centers[rows] = volume.grid.nearest_voxel(points[rows])
            reach[rows] /= volume.grid.spacing_irc[0]
        return centers, reach


def fill_crop(
    crop: NDArray[np.float32],
    hounsfield: NDArray[np.int16],
    start_irc: NDArray[np.int64],
    *,
    repeats_slices: bool = False,
) -> None:
    """Fill a crop (I, R, C) with HU within ``WINDOW_HU``, and with air where it extends beyond the CT.

    ``repeats_slices`` fills the slices beyond its ends with the outermost slice, as slice networks see it.
    """
    shape = np.asarray(crop.shape)
    low = np.clip(-start_irc, 0, shape)
    high = np.clip(np.asarray(hounsfield.shape) - start_irc, low, shape)
    if (low > 0).any() or (high < shape).any():
        crop.fill(WINDOW_HU[0])
    inside = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    source = tuple(slice(first, last) for first, last in zip(low + start_irc, high + start_irc, strict=True))
    np.clip(hounsfield[source], *map(int, WINDOW_HU), out=crop[inside], casting="unsafe")
    if repeats_slices and low[0] < high[0]:
        crop[: low[0]], crop[high[0] :] = crop[low[0]], crop[high[0] - 1]
