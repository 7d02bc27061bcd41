"""The baseline: a re-implementation of the tutorial's cutting.

SimpleITK reads the CT, which is converted to float32 and clipped. Each candidate becomes a separate file, whose name is
written to the table, and after each series the whole table is written as CSV.

Source:
    Same behaviour, other code: https://github.com/tomas-janicek/luna16, ``data_processing``.
"""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray

HU_WINDOW = (-1000, 1000)
TABLE_FILE = "present_candidates.csv"
Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class TutorialCt:
    """A CT in the tutorial's form: clipped float32 voxels (I, R, C), and its geometry in float32."""

    voxels: NDArray[np.float32]
    origin_xyz: NDArray[np.float32]
    spacing_mm: NDArray[np.float32]
    direction: NDArray[np.float32]


@dataclass(eq=False)
class TutorialCutter:
    """Cuts series into one file per candidate.

    Attributes:
        data_root: Folder of the CTs.
        table: All candidates in the tutorial's columns (``tutorial_table``); file names are filled in.
        out: Folder of the files.
        chunk_shape_irc: Voxels of a box.
        has_csv: Whether the whole table is written after each series.
    """

    data_root: Path
    table: pd.DataFrame
    out: Path
    chunk_shape_irc: tuple[int, int, int]
    has_csv: bool
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cut_series(self, uid: str) -> None:
        """Write the files of one series."""
        self.out.mkdir(parents=True, exist_ok=True)
        ct = read_ct(self.data_root / f"{uid}.mhd")
        for row in self.rows_of(uid):
            center_irc, box = self.place_of(ct, row)
            path = self.out / f"{uid}_{':'.join(map(str, center_irc))}.npz"
            with self._lock:
                self.table.at[row, "file_path"] = str(path)
            save_chunk(path, ct.voxels[box], center_irc)
        if self.has_csv:
            self.write_table()

    def rows_of(self, uid: str) -> pd.Index:
        """Return the table's rows of one series."""
        return self._groups[uid]

    def place_of(self, ct: TutorialCt, row: Any) -> tuple[NDArray[np.int16], Box]:
        """Return voxel and box of the candidate in a row of the table."""
        point = [self.table.at[row, name] for name in ("coord_x", "coord_y", "coord_z")]
        center_irc = nearest_voxel(ct, np.array(point, dtype=np.float32))
        return center_irc, box_around(center_irc, self.chunk_shape_irc, ct.voxels.shape)

    def write_table(self) -> None:
        """Write the whole table."""
        self.table.to_csv(self.out / TABLE_FILE, index=False)

    def __post_init__(self) -> None:
        self._groups = self.table.groupby("seriesuid").groups


def tutorial_table(candidates: pd.DataFrame) -> pd.DataFrame:
    """Return the project's candidates in the tutorial's columns, with no file name yet.

    Only the series being cut will have names, so the CSV is as short as at the tutorial's first series.
    """
    columns = {"series_instance_uid": "seriesuid", "x_mm": "coord_x", "y_mm": "coord_y", "z_mm": "coord_z"}
    table = candidates.rename(columns=columns)
    table = table[[*columns.values(), "class", "diameter_mm"]].fillna({"diameter_mm": 0.0}).astype({"class": "int64"})
    return table.assign(file_path=np.full(len(table), pd.NA, dtype=object))


def read_ct(path: Path) -> TutorialCt:
    """Read a CT into clipped float32."""
    image = sitk.ReadImage(str(path))
    voxels = np.array(sitk.GetArrayFromImage(image), dtype=np.float32)
    voxels.clip(*HU_WINDOW, out=voxels)
    direction = np.array(image.GetDirection(), dtype=np.float32).reshape(3, 3)
    return TutorialCt(voxels, _float32(image.GetOrigin()), _float32(image.GetSpacing()), direction)


def nearest_voxel(ct: TutorialCt, point_xyz: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return the voxel of a point, or of each of (N, 3), in float32; a few of 100,000 get a neighbouring voxel."""
    voxel_cri = (point_xyz - ct.origin_xyz) @ np.linalg.inv(ct.direction) / ct.spacing_mm
    return np.round(voxel_cri)[..., ::-1].astype(np.int16)


def box_around(center_irc: NDArray[np.int16], chunk_shape_irc: tuple[int, int, int], ct_shape: tuple[int, ...]) -> Box:
    """Return a box around a voxel, shifted to lie inside the CT."""
    starts = []
    for center, size, limit in zip(center_irc.tolist(), chunk_shape_irc, ct_shape, strict=True):
        starts.append(min(max(round(center - size / 2), 0), limit - size))
    return tuple(slice(start, start + size) for start, size in zip(starts, chunk_shape_irc, strict=True))


def save_chunk(path: Path, chunk: NDArray[np.float32], center_irc: NDArray[np.int16]) -> None:
    """Write the file of one candidate."""
    np.savez(path, ct_chunk=chunk, center_irc=center_irc)


def time_parts(cutter: TutorialCutter, uid: str) -> dict[str, float]:
    """Cut one series part by part and return the seconds of each."""
    cutter.out.mkdir(parents=True, exist_ok=True)
    marks = [time.perf_counter()]
    ct = read_ct(cutter.data_root / f"{uid}.mhd")
    marks.append(time.perf_counter())
    places = [cutter.place_of(ct, row) for row in cutter.rows_of(uid)]
    marks.append(time.perf_counter())
    for center_irc, box in places:
        save_chunk(cutter.out / f"{uid}_{':'.join(map(str, center_irc))}.npz", ct.voxels[box], center_irc)
    marks.append(time.perf_counter())
    cutter.write_table()
    marks.append(time.perf_counter())
    names = ("read_and_convert", "place", "cut_and_write_npz", "csv")
    return {name: after - before for name, before, after in zip(names, marks[:-1], marks[1:], strict=True)}


def _float32(values: Any) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)
