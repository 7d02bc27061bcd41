"""NoduleMNIST3D: one ``.npz`` file with the cutouts of all nodules, each read as a CT of its own.

A split (training, validation or test) is one packed array, so a nodule can only be read by unpacking its split. Each
process keeps the split that it unpacked last: nodules that are read in the order of their names unpack each split once.

The numbers are gray values from 0 to 255, not HU; which range of HU they were made from is not published. They are
mapped linearly onto the usual window of cutouts, and the check that voxels can be HU does not apply to them.

Source:
    Yang et al., MedMNIST v2, Scientific Data 10:41 (2023), doi:10.1038/s41597-022-01721-8; files of version 3.0.2,
    doi:10.5281/zenodo.10519652.
"""

import contextlib
import math
import re
import threading
import zipfile
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.content_hash import file_states
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.reader import CtReader
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.storage.regular_files import open_regular, shown_name
from luna_pipeline.core.storage.zip_limits import MEMBER_DAMAGES, zip_problem

EDGE_VOXELS = {"nodulemnist3d.npz": 28, "nodulemnist3d_64.npz": 64}
"""Voxels along each edge of a nodule's cube, by file name."""

SPLITS = ("train", "val", "test")
SPACING_MM = 1.0
WINDOW_HU = (-1000, 1000)
"""Numbers that gray value 0 and 255 become."""

GRAY_NOTE = (
    f"Gray values 0 to 255, not HU: mapped linearly onto {WINDOW_HU[0]} to {WINDOW_HU[1]}; "
    "the range of HU that they were made from is not published."
)

# The largest published array has 1,158 cubes of 64 voxels: 304 MB.
_MAX_MEMBER_BYTES = 1 << 30
_COPY_AGAIN = "Download the file again."
_UID = re.compile(rf"nodulemnist3d-({'|'.join(SPLITS)})-(\d{{4,6}})")
_GRAY_TO_HU = np.rint(np.linspace(*WINDOW_HU, 256)).astype(np.int16)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_unpacking = threading.Lock()


class Split(NamedTuple):
    """Nodules of one split.

    Attributes:
        images: Gray values, uint8 (N, I, R, C).
        labels: 1 for ratings of 4 or 5 (malignant), 0 for 1 or 2 (benign), uint8 (N,).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class NoduleMnistReader(CtReader):
    """Reads one nodule, by its name in ``series_instance_uid``."""

    is_hounsfield: ClassVar[bool] = False

    def files(self) -> tuple[Path, ...]:
        """Return the file of all nodules."""
        return (self.path,)

    def grid(self) -> VoxelGrid:
        """Return a grid of 1 mm with the first voxel at the origin: positions in the patient are not published.

        Raises:
            UnreadableCtError: If the file holds no such nodule.
        """
        return grid_of(self._gray.shape[0])

    def voxels(self) -> NDArray[np.int16]:
        """Return the gray values mapped onto ``WINDOW_HU``, shape (I, R, C)."""
        return _GRAY_TO_HU[self._gray]

    def content_fingerprint(self) -> str:
        """Return a digest of the nodule's own voxels: the other nodules of the file do not matter."""
        import xxhash

        return str(xxhash.xxh3_128(np.ascontiguousarray(self._gray).tobytes()).hexdigest())

    @cached_property
    def _gray(self) -> NDArray[np.uint8]:
        split, index = place_of(self.series_instance_uid, self.path)
        gray: NDArray[np.uint8] = nodule_in(read_split(self.path, split).images, split, index, self.path)
        return gray


def is_container(path: Path) -> bool:
    """Return whether a file is named as NoduleMNIST3D's."""
    return path.name in EDGE_VOXELS


def uid_of(split: str, index: int) -> str:
    """Return the name of a nodule as a series; the index counts from 0, as in the arrays."""
    return f"nodulemnist3d-{split}-{index:04d}"


def place_of(series_instance_uid: str, path: Path) -> tuple[str, int]:
    """Return split and index of a nodule.

    Raises:
        UnreadableCtError: If the name is not as from ``uid_of``.
    """
    found = _UID.fullmatch(series_instance_uid)
    if found is None:
        rule = f"A nodule must be named such as {uid_of('train', 0)}, got {series_instance_uid!r:.80}"
        raise UnreadableCtError(f"{rule} ({shown_name(path)}). Take a name from the catalogue.")
    return found[1], int(found[2])


def nodule_in(values: NDArray[np.uint8], split: str, index: int, path: Path) -> Any:
    """Return the image or label of a nodule from those of its split, shape (N, ...).

    Raises:
        UnreadableCtError: If there is none: the file has changed since it was catalogued.
    """
    if index >= len(values):
        rule = f"A nodule of split {split} must have a number below {len(values)}, got {index}"
        raise UnreadableCtError(f"{rule} ({shown_name(path)}). Make the catalogue again.")
    return values[index]


def grid_of(edge_voxels: int) -> VoxelGrid:
    """Return the grid of a cube with so many voxels along each edge."""
    size = (edge_voxels, edge_voxels, edge_voxels)
    return VoxelGrid(size, (SPACING_MM,) * 3, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


def num_nodules(path: Path) -> dict[str, int]:
    """Return the number of nodules of each split, from the arrays' headers alone.

    Args:
        path: ``nodulemnist3d.npz`` or ``nodulemnist3d_64.npz``.

    Raises:
        UnreadableCtError: As ``read_split``, as far as headers show it.
        OSError: If the file cannot be read.
    """
    found = {}
    with _archive(path) as archive:
        for split in SPLITS:
            with _opened(archive, f"{split}_images", path) as (_, shape):
                found[split] = shape[0]
    return found


def read_split(path: Path, split: str) -> Split:
    """Read one split; the one read last is kept by the process while its file stays the same.

    Args:
        path: ``nodulemnist3d.npz`` or ``nodulemnist3d_64.npz``.
        split: One of ``SPLITS``.

    Raises:
        UnreadableCtError: If the file is damaged, announces more than it can hold, holds Python objects, or its arrays
            are not as published.
        OSError: If it cannot be read.
    """
    # Two threads would each unpack it.
    with _unpacking:
        return _unpacked(path, split, tuple(file_states([path])))


def read_labels(path: Path, split: str) -> NDArray[np.uint8]:
    """Return the labels of a split, uint8 (N,), without unpacking its images.

    Raises:
        UnreadableCtError: As ``read_split``.
        OSError: If the file cannot be read.
    """
    with _archive(path) as archive, _opened(archive, f"{split}_images", path) as (_, shape):
        return _labels(archive, split, shape[0], path)


@lru_cache(maxsize=1)
def _unpacked(path: Path, split: str, _states: tuple[tuple[str, int, int, int], ...]) -> Split:
    with _archive(path) as archive, _opened(archive, f"{split}_images", path) as (stream, shape):
        images = np.frombuffer(stream.read(), dtype=np.uint8).reshape(shape)
        return Split(images, _labels(archive, split, len(images), path))


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the file once its announced sizes are checked; name what a damaged member raises."""
    rule = "NoduleMNIST3D must be a whole .npz file"
    with open_regular(path) as file:
        if problem := zip_problem(file, max_member_bytes=_MAX_MEMBER_BYTES):
            raise _refusal(rule, problem, path)
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except MEMBER_DAMAGES as error:
            raise _refusal(rule, str(error) or type(error).__name__, path) from error


@contextlib.contextmanager
def _opened(archive: zipfile.ZipFile, name: str, path: Path) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
    """Open an array behind its header, with its shape; Python objects are never built."""
    member = next((it for it in archive.infolist() if it.filename == f"{name}.npy"), None)
    if member is None:
        names = sorted(it.filename.removesuffix(".npy") for it in archive.infolist())[:9]
        raise _refusal(f"NoduleMNIST3D must hold an array {name}", ", ".join(names) or "none", path)
    with archive.open(member) as stream:
        try:
            shape, is_fortran, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
        except (ValueError, KeyError) as error:
            raise _refusal(f"Array {name} must be in numpy's format", str(error), path) from error
        num_bytes = member.file_size - stream.tell()
        if dtype != np.uint8 or is_fortran or math.prod(shape) != num_bytes:
            raise _refusal(f"Array {name} must be uint8 and fill its {num_bytes} bytes", f"{dtype} {shape}", path)
        edge = EDGE_VOXELS[path.name]
        if name.endswith("_images") and shape[1:] != (edge, edge, edge):
            raise _refusal(f"Array {name} must be (N, {edge}, {edge}, {edge})", shape, path)
        yield stream, shape


def _labels(archive: zipfile.ZipFile, split: str, num_images: int, path: Path) -> NDArray[np.uint8]:
    with _opened(archive, f"{split}_labels", path) as (stream, shape):
        labels = np.frombuffer(stream.read(), dtype=np.uint8)
    if shape not in {(num_images, 1), (num_images,)} or not np.isin(labels, (0, 1)).all():
        rule = f"Array {split}_labels must be ({num_images}, 1) of 0 and 1"
        raise _refusal(rule, f"{shape} of {np.unique(labels).tolist()[:9]}", path)
    return labels


def _refusal(rule: str, value: object, path: Path) -> UnreadableCtError:
    return UnreadableCtError(f"{rule}, got {' '.join(str(value).split())} ({shown_name(path)}). {_COPY_AGAIN}")
