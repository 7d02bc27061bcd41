"""Each variant of each source's tables is read as the clean table, or refused with the file and the row."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline.core.candidates.folds import assign_folds, describe_subset_table
from luna_pipeline.core.candidates.table_places import EXCLUDED_FILES, find_table
from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.evaluation.froc_files import read_findings
from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.core.sources.data_check import faults_of_tables
from luna_pipeline.core.sources.located import LocatedSource, locate_sources
from luna_pipeline.core.sources.luna16_form import luna16_form, write_luna16_form
from luna_pipeline_tests.core.sources.table_variants import Table, refused, same

SIZE = (32, 40, 40)
FORMS = {
    "luna16": (
        *("annotations.csv", "candidates_V2.csv", "annotations_excluded.csv", "annotations_with_malignancy.csv"),
        "luna16_subsets.csv",
    ),
    "csv_and_folder": ("scans.csv", "nodules.csv"),
    "luna25": ("LUNA25_Public_Training_Development_Data.csv",),
    "lndb": ("trainNodules.csv", "trainNodules_gt.csv", "trainFolds.csv"),
}
# Opened and split by the same code as another table of their source.
SHARED = ("candidates_V2.csv", "annotations_with_malignancy.csv", "scans.csv", "trainNodules_gt.csv")
CASES = [(source, name) for source, names in FORMS.items() for name in names]


@dataclass(frozen=True)
class Twin:
    """A source's twin: its CTs, and a folder with its tables alone."""

    located: LocatedSource
    catalogue: pd.DataFrame
    tables: Path


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    made: dict[str, Twin] = {}

    def twin_of(source: str) -> Twin:
        if source not in made:
            root = tmp_path_factory.mktemp(source) / "data"
            make_phantom(root, num_series=3, num_subsets=2, seed=3, size_irc=SIZE, source=source)
            (located,) = locate_sources(root, [source])
            catalogue = located.source.catalogue(root, data_root=root, patient_key=b"0" * 32)
            if source == "luna16":
                rows = zip(catalogue["series_instance_uid"], catalogue["subset"], strict=True)
                (root / "luna16_subsets.csv").write_text("seriesuid,subset\n" + "".join(f"{a},{b}\n" for a, b in rows))
                catalogue["subset"] = pd.array([None] * len(catalogue), dtype="Int64")
            tables = root.parent / "tables"
            shutil.copytree(root, tables, ignore=_leave_out_scans)
            made[source] = Twin(located, catalogue, tables)
        return made[source]

    return twin_of


def _leave_out_scans(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_file() and not name.endswith(".csv")]


def read(twin: Twin, root: Path, work: Path) -> tuple[list[pd.DataFrame], list[str]]:
    """Return everything that a source's tables are read as, and what is said of them."""
    source, catalogue = twin.located.source, twin.catalogue
    tables = source.tables(root, catalogue)
    write_luna16_form(work, luna16_form(tables, source.folds(root, catalogue)))
    if source.is_in_luna16_form and (root / "luna16_subsets.csv").exists():
        shutil.copy(root / "luna16_subsets.csv", work)
    has_rows = (work / "annotations.csv").exists() or (work / "candidates_V2.csv").exists()
    assert has_rows
    built = build_candidates(work, catalogue)
    folds = assign_folds(catalogue, data_root=work)
    path = find_table(work, EXCLUDED_FILES)
    # As the official evaluation reads it.
    excluded = read_findings(path, set(catalogue["series_instance_uid"]))
    notes = (*built.notes, *tables.notes, *describe_subset_table(folds, work))
    said = [note for note in notes if note.startswith(("Warning: ", "Rejected "))]
    said += [f"{row.file} line {row.line}: {row.reason}" for row in tables.rejected.itertuples()]
    columns = [name for name in built.candidates if name != "candidate_id"]
    rows = built.candidates.sort_values([*columns[:5]]).reset_index(drop=True)[columns]
    return [rows, folds.drop(columns="patient_hash"), excluded], said


def is_equal(one: list[pd.DataFrame], other: list[pd.DataFrame]) -> bool:
    return all(left.equals(right) for left, right in zip(one, other, strict=True))


# Several hundred files.
@pytest.mark.slow
@pytest.mark.parametrize(("source", "name"), CASES)
def test_each_variant_of_a_table_is_read_rightly_or_refused(twins, tmp_path, source, name):
    twin = twins(source)
    form = next(form for form in twin.located.source.table_forms if name in form.files[0])
    table = Table(twin.tables, form)
    clean, said = read(twin, twin.tables, tmp_path / "clean")
    assert said == []
    root = tmp_path / "root"
    shutil.copytree(twin.tables, root)
    path = root / table.path.relative_to(twin.tables)
    wrong = []
    is_own = name not in SHARED
    harmless = same(table) if is_own else ()
    for is_same, variants in ((True, harmless), (False, refused(table, has_own_reader=is_own))):
        for number, (how, content) in enumerate(variants):
            if not is_same and content == table.text.encode():
                continue
            path.write_bytes(content)
            why = fault_of_variant(twin, root, tmp_path / f"{is_same}{number}", path.name, clean, is_same=is_same)
            wrong += [f"{how}: {why}"] if why else []
    assert wrong == [], "\n".join(wrong)


def fault_of_variant(twin, root, work, name, clean, *, is_same) -> str:
    """Return what is wrong with how a variant is taken; empty for nothing."""
    try:
        made, said = read(twin, root, work)
    except ValueError as error:
        made, said = None, [str(error)]
    found = faults_of_tables(replace(twin.located, root=root), twin.catalogue)
    errors = [str(fault) for fault in found if fault.is_error]
    if is_same:
        return "" if made is not None and is_equal(made, clean) and not errors else f"not read: {said} {errors}"
    if made is None and ("\n" in said[0] or name not in said[0]):
        return f"refused without its file: {said}"
    if made is not None and not said and not is_equal(made, clean):
        return f"taken silently, and wrong; {errors}"
    if not any(name in line for line in errors):
        return f"not named by check_data: {[str(fault) for fault in found]}"
    return ""
