"""Write a made-up data set in the form of LUNA16: CTs, tables, and a marker that says it is whole."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.phantom.dicom import write_dicom
from luna_pipeline.core.phantom.marker import MARKER, UNFINISHED_MARKER
from luna_pipeline.core.phantom.series import PhantomConfig, PhantomSeries, make_series
from luna_pipeline.core.phantom.tables import SeriesRows, tables_of
from luna_pipeline.core.storage.files import write_bytes

FORMAT_VERSION = 1

FileFormat: TypeAlias = Literal["metaimage", "dicom"]
OnSeries: TypeAlias = Callable[[str, int, int], None]


def make_phantom(
    out: Path,
    *,
    num_series: int,
    num_subsets: int,
    seed: int,
    size_irc: tuple[int, int, int] | None = None,
    file_format: FileFormat = "metaimage",
    on_series: OnSeries | None = None,
) -> None:
    """Write a data set of made-up chest CTs; ``phantom.json`` is written last and marks it as whole.

    An earlier phantom in the folder, whole or not, is replaced; other data is never touched.

    Args:
        out: Folder of the data set; new, empty, or an earlier phantom's.
        num_series: Number of CTs.
        num_subsets: Number of subset folders; without meaning for DICOM, where folds follow the patients.
        seed: Seed of all that is drawn; series k is the same in every data set of a seed and size.
        size_irc: Voxels along index, row, col; None for LUNA16's size. A small size keeps voxel spacing and nodules
            and shrinks the chest to the field of view.
        file_format: MetaImage in subset folders, or a DICOM folder a series below a folder a patient.
        on_series: Called after each series with its UID, the number written so far and the number in all.

    Raises:
        ValueError: If a number is out of range or the format is unknown.
        FileExistsError: If the folder holds anything but a phantom.
    """
    _check_arguments(num_series, num_subsets, file_format)
    configs = [PhantomConfig(seed, number, size_irc) for number in range(num_series)]
    _clear(out)
    rows = []
    for done, config in enumerate(configs, start=1):
        series = make_series(config)
        if file_format == "dicom":
            write_dicom(out / config.patient_id / config.series_instance_uid, series)
        else:
            write_metaimage(out / f"subset{subset_of(config.number, num_subsets)}", series)
        rows.append(SeriesRows(config.series_instance_uid, series.findings))
        if on_series is not None:
            on_series(config.series_instance_uid, done, num_series)
    for name, content in tables_of(rows).items():
        write_bytes(out / name, content)
    marker = _marker(num_series, num_subsets, seed, size_irc, file_format) | _counts(rows)
    write_bytes(out / MARKER, (json.dumps(marker, indent=2) + "\n").encode())
    (out / UNFINISHED_MARKER).unlink()


def is_whole_phantom(
    out: Path,
    *,
    num_series: int,
    num_subsets: int,
    seed: int,
    size_irc: tuple[int, int, int] | None = None,
    file_format: FileFormat = "metaimage",
) -> bool:
    """Tell whether ``out`` holds the whole data set that `make_phantom` would write with the same arguments."""
    if not (out / MARKER).is_file() or (out / UNFINISHED_MARKER).exists():
        return False
    try:
        found = json.loads((out / MARKER).read_text())
    except ValueError:
        return False
    wanted = _marker(num_series, num_subsets, seed, size_irc, file_format)
    return isinstance(found, dict) and all(found.get(key) == value for key, value in wanted.items())


def subset_of(number: int, num_subsets: int) -> int:
    """Return the subset of a series; each round over the subsets has an order of its own.

    Otherwise every property that comes back regularly (flipped axes, no nodules) could fall into one subset.
    """
    turn, place = divmod(number, num_subsets)
    return int(np.random.default_rng(turn).permutation(num_subsets)[place])


def write_metaimage(folder: Path, series: PhantomSeries) -> None:
    """Write ``<uid>.mhd`` and ``<uid>.raw`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{series.config.series_instance_uid}.mhd"
    sitk.WriteImage(to_image(series.hounsfield, series.grid), str(path), useCompression=False)


def to_image(hounsfield: NDArray[np.int16], grid: VoxelGrid) -> sitk.Image:
    """Return a CT, int16 (I, R, C), as an ITK image on its grid."""
    image = sitk.GetImageFromArray(hounsfield)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_xyz)
    image.SetDirection(grid.direction)
    return image


def _check_arguments(num_series: int, num_subsets: int, file_format: str) -> None:
    if num_series < 1 or num_subsets < 1:
        msg = f"Numbers of series and subsets must be positive, got {num_series} and {num_subsets}. Take 1 or more."
        raise ValueError(msg)
    if file_format not in ("metaimage", "dicom"):
        msg = f"Format must be metaimage or dicom, got {file_format!r}. Choose one of the two."
        raise ValueError(msg)


def _clear(out: Path) -> None:
    """Make the folder ready: remove an earlier phantom, refuse other data, say that the work has begun."""
    held = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if held and MARKER not in held and UNFINISHED_MARKER not in held:
        msg = (
            f"A phantom is written into a new or empty folder, got {len(held)} other entries such as {held[0]} "
            f"({out}). Choose another folder."
        )
        raise FileExistsError(msg)
    write_bytes(out / UNFINISHED_MARKER, b"The data set here is not whole; make it again.\n")
    (out / MARKER).unlink(missing_ok=True)
    for name in tables_of([]):
        (out / name).unlink(missing_ok=True)
    for pattern in ("subset[0-9]*", "PHANTOM-[0-9]*"):
        for folder in out.glob(pattern):
            shutil.rmtree(folder)


def _marker(
    num_series: int, num_subsets: int, seed: int, size_irc: tuple[int, int, int] | None, file_format: str
) -> dict[str, object]:
    return {
        "synthetic": True,
        "note": "Made-up chest CTs; no patient was scanned. Research use only.",
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "file_format": file_format,
        "size_irc": None if size_irc is None else list(size_irc),
        "num_series": num_series,
        "num_subsets": num_subsets if file_format == "metaimage" else None,
    }


def _counts(rows: list[SeriesRows]) -> dict[str, object]:
    candidates = [candidate for item in rows for candidate in item.findings.candidates]
    return {
        "num_annotations": sum(len(item.findings.nodules) for item in rows),
        "num_candidates": len(candidates),
        "num_nodule_candidates": sum(candidate.is_nodule for candidate in candidates),
    }


def ensure_phantom(
    root: Path,
    *,
    num_series: int,
    num_subsets: int,
    seed: int,
    size_irc: tuple[int, int, int],
    report: Callable[[str], None],
) -> None:
    """Make sure that ``root`` holds a whole phantom data set.

    Args:
        root: Data root; an interrupted phantom there is made again.
        num_series: Number of CT series.
        num_subsets: Number of subset folders, that is folds.
        seed: Decides everything.
        size_irc: Voxels of each CT.
        report: Takes a line of progress a series.

    Raises:
        FileExistsError: If ``root`` holds data that are no phantom; they are left alone.
    """
    marker = root / MARKER
    if marker.exists():
        made = json.loads(marker.read_text())
        report(f"The synthetic phantom is there: {made['num_series']} series, seed {made['seed']}.")
        return

    def on_series(uid: str, done: int, total: int) -> None:
        report(f"Synthetic series {done} of {total}: {uid}")

    make_phantom(
        root, num_series=num_series, num_subsets=num_subsets, seed=seed, size_irc=size_irc, on_series=on_series
    )
