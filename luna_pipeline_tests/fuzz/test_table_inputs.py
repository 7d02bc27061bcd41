"""Malformed tables are refused in one line, or their rows are those that Python's own reader of CSV finds."""

import contextlib
import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.candidates.folds import assign_folds
from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.evaluation.froc_files import check_marks, read_froc_tables
from luna_pipeline.core.evaluation.official import evaluate_froc
from luna_pipeline_tests.fuzz.csv_files import SUBMISSION_TABLES, UIDS, submission, table
from luna_pipeline_tests.fuzz.ct_files import SIZE_IRC
from luna_pipeline_tests.fuzz.inputs import Malformed
from luna_pipeline_tests.fuzz.limits import complaint_of, limited
from luna_pipeline_tests.fuzz.settings import batches, report
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    root = tmp_path_factory.mktemp("cts")
    for seed, uid in enumerate(UIDS):
        write_ct(root, uid, random_hounsfield(SIZE_IRC, seed=seed))
    return catalogue_series(root, patient_key=b"key")


def points_in(path: Path, value: str) -> set[tuple[str, float, float, float, float]]:
    """Return uid, x, y, z and the value of each row of numbers, by Python's own reader."""
    found = set()
    if not path.is_file():
        return found
    for row in csv.DictReader(io.StringIO(path.read_text("utf-8-sig", errors="replace"), newline="")):
        cells = {str(key).strip(): (text or "").strip() for key, text in row.items() if isinstance(text, str)}
        with contextlib.suppress(ValueError, KeyError):
            numbers = [float(cells[name]) for name in ("coordX", "coordY", "coordZ", value)]
            found.add((cells["seriesuid"], *numbers))
    return found


def check_tables(item: Malformed, root: Path, catalogue) -> str | None:
    """Build the candidate table and folds of a root as `luna create_cutouts` does."""
    try:
        tables = build_candidates(root, catalogue)
        tables.require_rows()
        folds = assign_folds(catalogue, data_root=root)
    except (ValueError, OSError) as error:
        return complaint_of(str(error))
    for line in tables.notes:
        if "\n" in line or len(line) > 2000:
            return f"a note must be one line: {line[:300]!r}"
    if (tables.rejected["reason"].str.len() == 0).any() or tables.rejected["reason"].str.contains("\n").any():
        return f"a rejected row must have a reason of one line: {tables.rejected['reason'].tolist()}"
    if not folds["fold"].between(0, 1 << 32).all() or set(folds["series_instance_uid"]) != set(UIDS):
        return f"each series must have a fold: {folds.to_dict('records')}"
    kept = tables.candidates
    if not np.isfinite(kept[["x_mm", "y_mm", "z_mm"]].to_numpy()).all() or not set(kept["class"]) <= {0, 1}:
        return "a kept row must hold finite numbers and a class"
    detections = kept[kept["source"] == "candidate"]
    columns = (detections[name] for name in ("series_instance_uid", "x_mm", "y_mm", "z_mm", "class"))
    unknown = set(zip(*columns, strict=True)) - points_in(root / "candidates.csv", "class")
    return f"rows that are not in the file: {sorted(unknown)[:3]}" if unknown else None


def check_submission(item: Malformed, root: Path, catalogue) -> str | None:
    """Evaluate a submission as `luna evaluate_froc` does."""
    paths = {name: root / name if (root / name).exists() else root / f"{name}.gz" for name in SUBMISSION_TABLES}
    paths = {name: path if path.name in item.files or path.exists() else root / name for name, path in paths.items()}
    try:
        tables = read_froc_tables(
            annotations=paths["annotations.csv"],
            excluded=paths["excluded.csv"],
            series=paths["series.csv"],
            predictions=paths["predictions.csv"],
        )
        lines = check_marks(tables)
        result = evaluate_froc(tables, num_bootstraps=0, seed=0)
    except (ValueError, OSError) as error:
        return complaint_of(str(error))
    if any("\n" in line for line in lines):
        return f"a warning must be one line: {lines}"
    used = tables.marks[tables.marks["series_instance_uid"].isin(tables.scans)]
    if not np.isfinite(used[["x_mm", "y_mm", "z_mm", "probability"]].to_numpy()).all():
        return "a mark that counts must hold finite numbers"
    cpm = result.to_dict()["cpm"]
    if not (cpm is None or math.isnan(cpm) or 0 <= cpm <= 1):
        return f"the CPM is {cpm}"
    if paths["predictions.csv"].suffix == ".gz":
        return None
    columns = (used[name] for name in ("series_instance_uid", "x_mm", "y_mm", "z_mm", "probability"))
    unknown = set(zip(*columns, strict=True)) - points_in(paths["predictions.csv"], "probability")
    return f"marks that are not in the file: {sorted(unknown)[:3]}" if unknown else None


def complaints_about(inputs: Sequence[Malformed], check: Callable, place: Path, catalogue) -> list[str]:
    found = []
    for item in inputs:
        root = place / item.name
        item.write(root)
        try:
            with limited():
                complaint = check(item, root, catalogue)
        except (Exception, RecursionError) as error:
            complaint = f"{type(error).__name__}: {str(error)[:500]}"
        if complaint:
            found.append(f"{item.name} ({item.change}): {complaint}")
    return found


@pytest.mark.parametrize(
    ("kind", "generator", "check"), [("table", table, check_tables), ("submission", submission, check_submission)]
)
def test_malformed_tables_are_refused_in_one_line_or_read_as_they_are(kind, generator, check, tmp_path, catalogue):
    complaints = []
    for inputs in batches(generator, kind):
        complaints += complaints_about(inputs, check, tmp_path, catalogue)
    report(complaints)
