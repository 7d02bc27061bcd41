"""A row for each scan of a catalogue: headers, geometry, voxels, nodules and fold."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pandas as pd

from luna_pipeline.core.ct.catalogue import scan_key
from luna_pipeline.core.ct.formats.dicom_acquisition import Acquisition, acquisitions_of_folder
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.workers import run_jobs
from luna_pipeline.core.quality.geometry_facts import geometry_facts, missing_slices
from luna_pipeline.core.quality.kept_facts import KeptFacts
from luna_pipeline.core.quality.voxel_facts import VoxelFacts, VoxelJob

OnScan = Callable[[str, int, int], None]
_SCANS_A_WRITE = 50
_TEXTS = ("data_source", "manufacturer", "model", "kernel", "contrast", "position", "plane", "axes", "content_digest")
_WHOLE = ("fold", "num_slices", "num_rows", "num_cols", "missing_slices", "num_nodules", "num_candidates")
_NUMBERS = (
    *("slice_spacing_mm", "slice_thickness_mm", "gap_mm", "pixel_spacing_mm", "field_of_view_mm", "coverage_mm"),
    *("tilt_deg", "tube_kv", "tube_mas", "lowest_hu", "highest_hu", "percentile_1_hu", "median_hu", "percentile_99_hu"),
    *("padding_hu", "padding_share", "clipped_share", "air_peak_hu", "tissue_peak_hu", "noise_hu"),
    *("smallest_nodule_mm", "largest_nodule_mm"),
)
SCAN_COLUMNS = (
    *("series_instance_uid", "format", "is_readable", "reason", "fingerprint"),
    *(*_TEXTS, *_WHOLE, *_NUMBERS, "is_hounsfield", "histogram"),
)


def describe_scans(
    catalogue: pd.DataFrame,
    *,
    data_root: Path,
    kept: KeptFacts | None,
    candidates: pd.DataFrame | None = None,
    folds: pd.DataFrame | None = None,
    workers: int = 2,
    on_scan: OnScan | None = None,
) -> pd.DataFrame:
    """Return the facts of each scan.

    Args:
        catalogue: As from ``catalogue_series``. Of several files of a series, the readable one counts.
        data_root: Its paths are relative to it.
        kept: Facts of earlier descriptions, which are added to and written; None to read no voxels.
        candidates: Candidate table, for the nodules of a scan; None for unknown.
        folds: Table of folds; None for unknown.
        workers: Processes that read voxels.
        on_scan: Called with uid, number and total of the scans whose voxels are read.

    Returns:
        A row a series, sorted by uid, with ``SCAN_COLUMNS``. Of what a file format or header does not state, the
        value is null. ``missing_slices`` is 0 for DICOM series with even slices, and null for other formats.
    """
    one = catalogue.sort_values(["series_instance_uid", "is_readable"], ascending=[True, False], kind="stable")
    one = one.drop_duplicates("series_instance_uid").reset_index(drop=True)
    of_dicom = _facts_of_dicom(one[one["format"] == "dicom"], data_root)
    rows = [_header_row(row) | of_dicom.get(row.series_instance_uid, {}) for row in _rows(one)]
    if kept is not None:
        voxels = _facts_of_voxels(one[one["is_readable"]], data_root, kept, workers, on_scan)
        rows = [row | voxels.get(row["series_instance_uid"], {}) for row in rows]
    table = pd.DataFrame(rows, columns=list(SCAN_COLUMNS))
    for column, values in (_of_nodules(candidates) | _of_folds(folds)).items():
        table[column] = table["series_instance_uid"].map(values)
    if candidates is not None:
        counts = ["num_nodules", "num_candidates"]
        table[counts] = table[counts].where(table[counts].notna() | ~table["is_readable"].to_numpy()[:, None], 0)
    return _typed(table)


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    return table.itertuples()


def _facts_of_dicom(series: pd.DataFrame, data_root: Path) -> dict[str, dict[str, Any]]:
    """Return technique and missing slices by series; each folder is read once, also one with many series."""
    found: dict[str, dict[str, Any]] = {}
    for path, rows in series.groupby("path"):
        folder = data_root / str(path)
        if not folder.is_dir():
            continue
        uids = set(rows["series_instance_uid"])
        techniques = acquisitions_of_folder(folder, uids)
        missing = {} if rows["is_readable"].all() else missing_slices(folder)
        for row in _rows(rows):
            uid = row.series_instance_uid
            found[uid] = asdict(techniques.get(uid, Acquisition()))
            found[uid]["missing_slices"] = 0 if row.is_readable else missing.get(uid)
    return found


def _header_row(row: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        name: getattr(row, name) for name in ("series_instance_uid", "format", "is_readable", "reason", "fingerprint")
    }
    facts |= {"manufacturer": row.manufacturer, "slice_thickness_mm": row.slice_thickness_mm}
    # Catalogues of one folder do not name the source.
    facts["data_source"] = getattr(row, "data_source", None)
    if row.is_readable:
        facts |= geometry_facts(_grid(row))
        facts["gap_mm"] = facts["slice_spacing_mm"] - facts["slice_thickness_mm"]
    return facts


def _grid(row: Any) -> VoxelGrid:
    num_slices, num_rows, num_cols = (int(size) for size in row.size_irc)
    x_mm, y_mm, z_mm = (float(value) for value in row.spacing_mm)
    x, y, z = (float(value) for value in row.origin_xyz)
    direction = tuple(float(value) for value in row.direction)
    return VoxelGrid((num_slices, num_rows, num_cols), (x_mm, y_mm, z_mm), (x, y, z), direction)


def _facts_of_voxels(
    readable: pd.DataFrame, data_root: Path, kept: KeptFacts, workers: int, on_scan: OnScan | None
) -> dict[str, dict[str, Any]]:
    """Return the facts by series; a scan whose voxels cannot be read has its reason."""
    keys: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    jobs = []
    for row in _rows(readable):
        path = data_root / row.path
        keys[row.series_instance_uid] = scan_key(row.fingerprint, row.series_instance_uid, path)
        facts = kept.get(keys[row.series_instance_uid])
        if facts is None:
            jobs.append(VoxelJob(path, row.series_instance_uid))
        else:
            found[row.series_instance_uid] = asdict(facts)
    for number, (uid, result) in enumerate(_run(jobs, workers), start=1):
        if isinstance(result, str):
            found[uid] = {"is_readable": False, "reason": str(result)}
        else:
            kept.put(keys[uid], result)
            found[uid] = asdict(result)
        if number % _SCANS_A_WRITE == 0 or number == len(jobs):
            kept.write()
        if on_scan is not None:
            on_scan(uid, number, len(jobs))
    return found


def _run(jobs: list[VoxelJob], workers: int) -> Iterator[tuple[str, VoxelFacts | str]]:
    """Run the jobs with the processes that also cut: they need nothing of a job but its series and ``run``."""
    run = cast("Callable[..., Iterable[tuple[str, VoxelFacts | str]]]", run_jobs)
    yield from run(jobs, workers=min(workers, max(1, len(jobs))))


def _of_nodules(candidates: pd.DataFrame | None) -> dict[str, Mapping[Any, Any]]:
    if candidates is None:
        return {}
    uids = candidates["series_instance_uid"].astype(str)
    is_annotation = candidates["source"] == "annotation"
    diameters = candidates["diameter_mm"][is_annotation].groupby(uids[is_annotation])
    return {
        "num_candidates": uids[~is_annotation].value_counts().to_dict(),
        "num_nodules": uids[is_annotation].value_counts().to_dict(),
        "smallest_nodule_mm": diameters.min().to_dict(),
        "largest_nodule_mm": diameters.max().to_dict(),
    }


def _of_folds(folds: pd.DataFrame | None) -> dict[str, Mapping[Any, Any]]:
    return {} if folds is None else {"fold": folds.set_index("series_instance_uid")["fold"].to_dict()}


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    types = {name: "Int64" for name in _WHOLE} | {name: "float64" for name in _NUMBERS}
    for name in (*_TEXTS, "reason", "fingerprint"):
        # A missing text is None in all rows, as in the catalogue.
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    table["histogram"] = [value if isinstance(value, list) else [] for value in table["histogram"]]
    return table.astype(types | {"is_hounsfield": "boolean", "is_readable": "bool"})
