"""The synthetic twin of LNDb: CTs in folders data0 to data5, masks of one to three readers, and its tables."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.phantom.form import PhantomForm
from luna_pipeline.core.phantom.luna16 import image_of, subset_of
from luna_pipeline.core.phantom.nodules import Nodule, Texture
from luna_pipeline.core.phantom.series import PhantomSeries
from luna_pipeline.core.phantom.shapes import Point, as_point
from luna_pipeline.core.phantom.tables import UNIX, csv_bytes

MARK_COLUMNS = ("LNDbID", "RadID", "FindingID", "Nodule", "x", "y", "z", "Volume", "Text")
FINDING_COLUMNS = (
    *("LNDbID", "RadID", "RadFindingID", "FindingID", "x", "y", "z", "AgrLevel", "Nodule", "Volume", "Text"),
)
NUM_FOLDERS = 6
# LNDb's volume of findings that no reader outlined: a ball of 3 mm.
UNMEASURED_MM3 = 4 / 3 * math.pi * 1.5**3
_TEXTURES: Mapping[Texture, float] = {"solid": 5, "calcified": 5, "part-solid": 3, "ground-glass": 1}


@dataclass(frozen=True)
class _Mark:
    """A reader's mark: position in mm, whether it is a nodule, volume in mm³, texture from 1 to 5 or 0."""

    reader: int
    number: int
    center_xyz: Point
    is_nodule: bool
    volume_mm3: float
    texture: int


@dataclass
class LndbForm(PhantomForm):
    """``data<k>/LNDb-<XXXX>.mhd``, ``masks/LNDb-<XXXX>_rad<N>.mhd`` and ``trainset_csv/``.

    Attributes:
        marks: Rows of the table of marks so far.
        merged: Rows of the table of findings so far.
        scans: LNDbIDs by fold.
    """

    patterns = ("data[0-5]", "masks", "trainset_csv")
    marks: list[list[object]] = field(default_factory=list)
    merged: list[list[object]] = field(default_factory=list)
    scans: dict[int, list[int]] = field(default_factory=dict)

    def write_series(self, series: PhantomSeries) -> None:
        """Write CT and masks, and keep the rows of the tables."""
        number = series.config.number
        lndb_id = number + 1
        folder = self.out / f"data{number % NUM_FOLDERS}"
        folder.mkdir(parents=True, exist_ok=True)
        image = image_of(series)
        sitk.WriteImage(image, str(folder / f"LNDb-{lndb_id:04d}.mhd"), useCompression=False)
        found = list(_findings(np.random.default_rng([series.config.seed, number, 77]), series))
        num_readers = max((mark.reader for finding in found for mark in finding), default=1)
        for reader in range(1, num_readers + 1):
            mine = [mark for finding in found for mark in finding if mark.reader == reader]
            labels = np.zeros(series.grid.size_irc, np.uint8)
            for mark in mine:
                if mark.is_nodule:
                    _paint(labels, series.grid, mark)
            self._write_mask(image, labels, f"LNDb-{lndb_id:04d}_rad{reader}.mhd")
        self.marks += [[lndb_id, *_mark_cells(mark)] for finding in found for mark in finding]
        self.merged += [[lndb_id, *_merged_cells(place, finding)] for place, finding in enumerate(found, start=1)]
        self.scans.setdefault(subset_of(number, self.num_subsets), []).append(lndb_id)

    def tables(self) -> Mapping[str, bytes]:
        """Return LNDb's tables."""
        folds = [self.scans.get(fold, []) for fold in range(self.num_subsets)]
        rows = [[fold[place] if place < len(fold) else "" for fold in folds] for place in range(max(map(len, folds)))]
        names = [f"Fold{fold}" for fold in range(self.num_subsets)]
        return {
            "trainset_csv/trainNodules.csv": csv_bytes(MARK_COLUMNS, self.marks, UNIX),
            "trainset_csv/trainNodules_gt.csv": csv_bytes(FINDING_COLUMNS, self.merged, UNIX),
            "trainset_csv/trainFolds.csv": csv_bytes(names, rows, UNIX),
        }

    def _write_mask(self, image: sitk.Image, labels: NDArray[np.uint8], name: str) -> None:
        """Write a reader's mask: balls of the marks' volumes, each with the mark's number."""
        mask = sitk.GetImageFromArray(labels)
        mask.CopyInformation(image)
        folder = self.out / "masks"
        folder.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(mask, str(folder / name), useCompression=False)


def _findings(rng: np.random.Generator, series: PhantomSeries) -> Iterator[list[_Mark]]:
    """Yield the marks of each finding: nodules by one to three readers, small ones by one, and non-nodules."""
    numbers = {1: 0, 2: 0, 3: 0}

    def marks_of(readers: Sequence[int], center_xyz: Point, nodule: Nodule | None) -> list[_Mark]:
        marks = []
        for reader in readers:
            numbers[reader] += 1
            volume_mm3 = UNMEASURED_MM3
            if nodule is not None and nodule.diameter_mm >= 3:
                # No outline is as small as the placeholder.
                drawn = math.pi / 6 * nodule.diameter_mm**3 * rng.uniform(0.8, 1.2)
                volume_mm3 = max(float(drawn), 1.01 * UNMEASURED_MM3)
            texture = _TEXTURES[nodule.texture] + rng.integers(-1, 2) if nodule else 0
            marks.append(
                _Mark(
                    reader=reader,
                    number=numbers[reader],
                    center_xyz=as_point(np.asarray(center_xyz) + rng.normal(0, 0.2, 3)),
                    is_nodule=nodule is not None,
                    volume_mm3=volume_mm3,
                    texture=int(np.clip(texture, 1, 5)) if nodule else 0,
                )
            )
        return marks

    for nodule in series.findings.nodules:
        yield marks_of(range(1, 1 + int(rng.integers(1, 4))), nodule.center_xyz, nodule)
    for nodule in series.findings.minor_nodules:
        yield marks_of([1], nodule.center_xyz, nodule)
    for excluded in series.findings.excluded:
        is_minor = any(excluded.center_xyz == nodule.center_xyz for nodule in series.findings.minor_nodules)
        if not is_minor:
            yield marks_of([1], excluded.center_xyz, None)


def _mark_cells(mark: _Mark) -> list[object]:
    return [mark.reader, mark.number, int(mark.is_nodule), *mark.center_xyz, mark.volume_mm3, mark.texture]


def _merged_cells(number: int, marks: Sequence[_Mark]) -> list[object]:
    """Return a finding's row as LNDb's program makes it: means of position, volume and texture."""
    is_nodule = marks[0].is_nodule
    return [
        ",".join(str(mark.reader) for mark in marks),
        ",".join(str(mark.number) for mark in marks),
        number,
        *(float(value) for value in np.mean([mark.center_xyz for mark in marks], axis=0)),
        sum(mark.is_nodule for mark in marks),
        int(is_nodule),
        float(np.mean([mark.volume_mm3 for mark in marks])),
        float(np.mean([mark.texture for mark in marks])),
    ]


def _paint(labels: NDArray[np.uint8], grid: VoxelGrid, mark: _Mark) -> None:
    """Write a mark's number into the voxels whose centres lie in its ball, at least into the nearest one."""
    radius_mm = (3 * mark.volume_mm3 / (4 * math.pi)) ** (1 / 3)
    middle = grid.nearest_voxel(mark.center_xyz)
    reach = np.ceil(radius_mm / grid.spacing_irc).astype(int) + 1
    low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, labels.shape)
    box = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1)
    distance_mm = np.linalg.norm(grid.voxel_to_world(box) - np.asarray(mark.center_xyz), axis=-1)
    labels[tuple(map(slice, low, high))][distance_mm <= radius_mm] = mark.number
    labels[tuple(middle)] = mark.number
