"""Synthetic series of LUNA16's size, each made in a second, with the tables of the whole data set.

A simple chest (body, two lungs) with a scanner's noise: cutting costs the same at every position, and with this noise a
compressed file has three quarters of the bytes, as in LUNA16.
"""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray

from benchmarks.workload import Workload
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.geometry import VoxelGrid

SPACING_MM = (0.703125, 0.703125, 1.25)
ORIGIN_XYZ = (-180.0, -180.0, -300.0)
NOISE_HU = 145.0
AIR_HU, LUNG_HU, TISSUE_HU = -1000, -850, 40
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Site:
    """A data root with its tables.

    Attributes:
        data_root: Folder of the CTs.
        uids: The series with a separate ``.raw`` file.
        compressed_uid: A copy of the first of them, as ``.zraw``.
        rate_uids: All series with an uncompressed CT.
        catalogue: The CTs, as the project lists them.
        candidates: Candidates of all series of the table, in the project's form.
    """

    data_root: Path
    uids: list[str]
    compressed_uid: str
    rate_uids: list[str]
    catalogue: pd.DataFrame
    candidates: pd.DataFrame

    def header_path(self, uid: str) -> Path:
        """Return the header of a series' CT."""
        return self.data_root / f"{uid}.mhd"

    def raw_path(self, uid: str) -> Path:
        """Return the voxel file of a series."""
        return self.data_root / f"{uid}.raw"


def make_site(folder: Path, workload: Workload) -> Site:
    """Write the CTs and make the tables.

    Args:
        folder: A new folder.
        workload: Sizes.
    """
    folder.mkdir(parents=True)
    uids = [uid_of(number) for number in range(workload.num_table_series)]
    num_raw = max(workload.num_series, workload.num_rate_series)
    compressed_uid = uids[num_raw]
    for number in range(workload.num_series):
        image = make_image(workload, number=number)
        sitk.WriteImage(image, str(folder / f"{uids[number]}.mhd"), useCompression=False)
        if number == 0:
            sitk.WriteImage(image, str(folder / f"{compressed_uid}.mhd"), useCompression=True)
    for number in range(workload.num_series, num_raw):
        # A further series with the same voxels: each header names a file of its own, here a link.
        first, uid = uids[number % workload.num_series], uids[number]
        (folder / f"{uid}.raw").symlink_to(f"{first}.raw")
        (folder / f"{uid}.mhd").write_text((folder / f"{first}.mhd").read_text().replace(first, uid))
    return Site(
        data_root=folder,
        uids=uids[: workload.num_series],
        compressed_uid=compressed_uid,
        rate_uids=uids[:num_raw],
        catalogue=catalogue_series(folder, patient_key=b"benchmark"),
        candidates=make_candidates(workload, uids, same_places={num_raw: 0}),
    )


def uid_of(number: int) -> str:
    """Return a made-up UID with 64 characters, as long as LUNA16's."""
    return f"2.25.{10**58 + number}"


def make_image(workload: Workload, *, number: int) -> sitk.Image:
    """Return a made-up CT."""
    image = sitk.GetImageFromArray(make_hounsfield(workload.size_irc, seed=(workload.seed, number)))
    image.SetSpacing(SPACING_MM)
    image.SetOrigin(ORIGIN_XYZ)
    return image


def make_hounsfield(size_irc: tuple[int, int, int], *, seed: tuple[int, ...]) -> NDArray[np.int16]:
    """Return HU, int16 (I, R, C): body and lungs under noise."""
    rng = np.random.default_rng(seed)
    chest = _outline(size_irc[1], size_irc[2])
    hounsfield = np.empty(size_irc, dtype=np.int16)
    for target in hounsfield:
        noise = np.float32(NOISE_HU) * rng.standard_normal(chest.shape, dtype=np.float32)
        target[:] = np.rint(chest + noise)
    return hounsfield


def make_candidates(workload: Workload, uids: list[str], *, same_places: dict[int, int]) -> pd.DataFrame:
    """Return a table of candidates of all series in the project's form; ids rise with the rows.

    Args:
        workload: Sizes.
        uids: The series.
        same_places: Series (by number) whose candidates have the positions of those of another series.
    """
    counts = np.full(len(uids), workload.num_table_rows // len(uids))
    counts[: workload.num_table_rows - counts.sum()] += 1
    points = [
        points_in(workload.size_irc, int(count), seed=(workload.seed, 1, same_places.get(number, number)))
        for number, count in enumerate(counts)
    ]
    return table_of(np.repeat(np.asarray(uids, dtype=object), counts), np.concatenate(points))


def points_in(size_irc: tuple[int, int, int], count: int, *, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """Return world points, shape (count, 3), in the inner part of the slices, up to the first and last slice."""
    rng = np.random.default_rng(seed)
    grid = VoxelGrid(size_irc, SPACING_MM, ORIGIN_XYZ, IDENTITY)
    last = np.asarray(size_irc) - 1
    voxels = rng.uniform(last * (0.0, 0.1, 0.1), last * (1.0, 0.9, 0.9), size=(count, 3))
    return np.asarray(np.round(grid.voxel_to_world(voxels), 7))


def table_of(uids: NDArray[np.object_], points_xyz: NDArray[np.float64]) -> pd.DataFrame:
    """Return candidates in the project's form; every 500th is a nodule."""
    table = pd.DataFrame(points_xyz, columns=["x_mm", "y_mm", "z_mm"])
    is_nodule = np.arange(len(table)) % 500 == 0
    table.insert(0, "candidate_id", np.arange(len(table), dtype=np.int64))
    table.insert(1, "series_instance_uid", uids)
    table["class"] = is_nodule.astype(np.int8)
    table["diameter_mm"] = np.where(is_nodule, 6.5, np.nan)
    table["malignancy"] = np.nan
    table["is_malignant"] = pd.array([None] * len(table), dtype="boolean")
    table["source"] = "candidate"
    return table


def _outline(num_rows: int, num_cols: int) -> NDArray[np.float32]:
    # Fractions of the slice, from its middle.
    rows = np.linspace(-0.5, 0.5, num_rows)[:, None]
    cols = np.linspace(-0.5, 0.5, num_cols)[None, :]
    is_body = (rows / 0.33) ** 2 + (cols / 0.46) ** 2 < 1
    is_lung = (rows / 0.21) ** 2 + ((np.abs(cols) - 0.2) / 0.15) ** 2 < 1
    return np.where(is_lung, LUNG_HU, np.where(is_body, TISSUE_HU, AIR_HU)).astype(np.float32)
