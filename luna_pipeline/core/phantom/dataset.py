"""Write a synthetic data set in the form of a data source: CTs, tables, and a marker that is written last."""

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, TypeAlias

from luna_pipeline.core.phantom.findings import Findings
from luna_pipeline.core.phantom.form import PHANTOM_FORMS, PhantomForm
from luna_pipeline.core.phantom.luna16 import DicomForm
from luna_pipeline.core.phantom.marker import MARKER, UNFINISHED_MARKER
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline.core.storage.files import write_bytes

FORMAT_VERSION = 1

FileFormat: TypeAlias = Literal["metaimage", "dicom"]
OnSeries: TypeAlias = Callable[[str, int, int], None]


def ensure_phantom(
    root: Path,
    *,
    num_series: int,
    num_subsets: int,
    seed: int,
    size_irc: tuple[int, int, int],
    report: Callable[[str], object] = str,
) -> None:
    """Write a phantom into ``root`` unless a complete one is there; an interrupted one is replaced.

    Args:
        root: Data root.
        num_series: Number of CTs.
        num_subsets: Number of subset folders, that is folds.
        seed: As for ``make_phantom``.
        size_irc: Voxels of each CT.
        report: Called with a line of progress for each series; by default lines are discarded.

    Raises:
        FileExistsError: If ``root`` holds data that are no phantom; they are left alone.
    """
    if (root / MARKER).exists():
        made = json.loads((root / MARKER).read_text())
        report(f"The synthetic phantom is there: {made['num_series']} series, seed {made['seed']}.")
        return

    def on_series(uid: str, done: int, total: int) -> None:
        report(f"Synthetic series {done} of {total}: {uid}")

    make_phantom(
        root, num_series=num_series, num_subsets=num_subsets, seed=seed, size_irc=size_irc, on_series=on_series
    )


def make_phantom(
    out: Path,
    *,
    num_series: int,
    num_subsets: int,
    seed: int,
    size_irc: tuple[int, int, int] | None = None,
    file_format: FileFormat = "metaimage",
    source: str = "luna16",
    on_series: OnSeries | None = None,
) -> None:
    """Write a data set of synthetic chest CTs; ``phantom.json`` is written last and marks it as complete.

    An earlier phantom in the folder, complete or not, is replaced; other data is never touched.

    Args:
        out: Folder of the data set; new, empty, or an earlier phantom's.
        num_series: Number of CTs.
        num_subsets: Number of folds; ignored for DICOM and for sources without folds, where folds follow the patients.
        seed: Random seed; series k is the same in every data set of a seed and size.
        size_irc: Voxels along index, row, col; None for LUNA16's size. A small size keeps voxel spacing and nodules
            and shrinks the chest to the field of view.
        file_format: LUNA16's tables with MetaImage in subset folders, or with a DICOM folder a series below a folder a
            patient; for the source ``luna16`` only.
        source: Data source whose form the data set has, a name in ``PHANTOM_FORMS``.
        on_series: Called after each series with its UID, the number written so far and the total.

    Raises:
        ValueError: If a number is out of range or the format is unknown.
        FileExistsError: If the folder holds anything but a phantom.
    """
    if num_series < 1 or num_subsets < 1:
        msg = f"Numbers of series and subsets must be positive, got {num_series} and {num_subsets}. Take 1 or more."
        raise ValueError(msg)
    form = _form_of(source, file_format)(out, num_subsets)
    configs = [PhantomConfig(seed, number, size_irc) for number in range(num_series)]
    _clear(out)
    for done, config in enumerate(configs, start=1):
        form.write(make_series(config))
        if on_series is not None:
            on_series(config.series_instance_uid, done, num_series)
    for name, content in form.tables().items():
        write_bytes(out / name, content)
    marker = {
        "synthetic": True,
        "note": "Made-up chest CTs; no patient was scanned. Research use only.",
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "file_format": file_format,
        "source": source,
        "size_irc": None if size_irc is None else list(size_irc),
        "num_series": num_series,
        "num_subsets": num_subsets if file_format == "metaimage" else None,
        **_counts(form.findings.values()),
    }
    write_bytes(out / MARKER, (json.dumps(marker, indent=2) + "\n").encode())
    (out / UNFINISHED_MARKER).unlink()


def _form_of(source: str, file_format: FileFormat) -> type[PhantomForm]:
    if file_format not in ("metaimage", "dicom"):
        raise ValueError(f"Format must be metaimage or dicom, got {file_format!r}. Choose one of the two.")
    if file_format == "dicom":
        if source != "luna16":
            msg = f"Format dicom must be of the source luna16, got {source!r}. Leave the format out."
            raise ValueError(msg)
        return DicomForm
    return PHANTOM_FORMS.get(source)


def _clear(out: Path) -> None:
    """Remove an earlier phantom, refuse other data, and mark the folder as unfinished."""
    held = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if held and MARKER not in held and UNFINISHED_MARKER not in held:
        msg = f"A phantom is written into a new or empty folder, got {len(held)} other entries such as {held[0]}"
        raise FileExistsError(f"{msg} ({out}). Choose another folder.")
    write_bytes(out / UNFINISHED_MARKER, b"The data set here is not whole; make it again.\n")
    (out / MARKER).unlink(missing_ok=True)
    forms: list[type[PhantomForm]] = [DicomForm, *(PHANTOM_FORMS.get(name) for name in PHANTOM_FORMS.names())]
    for pattern in {pattern for form in forms for pattern in form.patterns}:
        for path in out.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _counts(all_findings: Collection[Findings]) -> dict[str, int]:
    is_nodule = [candidate.is_nodule for findings in all_findings for candidate in findings.candidates]
    return {
        "num_annotations": sum(len(findings.nodules) for findings in all_findings),
        "num_candidates": len(is_nodule),
        "num_nodule_candidates": sum(is_nodule),
    }
