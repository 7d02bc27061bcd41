"""Data sources of an installation, from the data root to tables and folds."""

import shutil
from dataclasses import replace

import pandas as pd
import pytest

from luna_pipeline.core.same_scans.tables import same_scans_table
from luna_pipeline.core.sources.luna16 import Luna16
from luna_pipeline.core.sources.source import DATA_SOURCES, SourceTables
from luna_pipeline.launchers.cutting import catalogue_of, make_tables
from luna_pipeline.launchers.data_sources import (
    catalogued_sources,
    describe_fold_table,
    outdated_tables,
    sources_of,
    tables_root,
)
from luna_pipeline.launchers.proposals import propose_candidates
from luna_pipeline.settings import Settings


class Annotated(Luna16):
    """LUNA16's files without its candidates, as a source whose tables are not in LUNA16's form."""

    is_in_luna16_form = False

    def tables(self, root, catalogue):
        tables = super().tables(root, catalogue)
        numbers = tables.annotations.astype({name: "float64" for name in ("x_mm", "y_mm", "z_mm", "diameter_mm")})
        readers = numbers.assign(nodule=0, reader=-1, longest_axial_mm=1.0, volume_mm3=1.0)
        readers = readers.assign(**dict.fromkeys(RATED, 5))
        return SourceTables(annotations=numbers, readers=readers, notes=("from tables",))


RATED = (
    *("subtlety", "internal_structure", "calcification", "sphericity", "margin"),
    *("lobulation", "spiculation", "texture", "malignancy"),
)


@pytest.fixture
def annotated():
    DATA_SOURCES.register("annotated")(Annotated)
    yield
    DATA_SOURCES.forget("annotated")


@pytest.fixture
def settings(phantom_source, tmp_path):
    return Settings(data_dir=phantom_source, home=tmp_path / "home", mlflow_tracking_uri="")


def test_luna16_is_read_where_it_lies(settings):
    make_tables(settings, lambda line: None)
    assert tables_root(settings) == settings.data_dir
    assert not settings.source_tables_dir.exists()
    assert pd.read_parquet(settings.tables_dir / "reader_nodules.parquet").empty


def test_a_source_without_candidates_gets_proposed_ones_and_tables_in_luna16s_form(settings, annotated):
    settings = replace(settings, sources=("annotated",))
    lines: list[str] = []
    catalogue, candidates, folds = make_tables(settings, lines.append)
    assert tables_root(settings) == settings.source_tables_dir
    # What was catalogued decides, not what is set now.
    assert [it.name for it in catalogued_sources(replace(settings, sources=()))] == ["annotated"]
    proposed = candidates[candidates["source"] == "candidate"]
    assert len(proposed) > 20
    assert pd.read_parquet(settings.tables_dir / "rejected.parquet").empty
    inside = proposed["diameter_mm"].notna()
    assert (proposed["class"] == inside).all()
    assert proposed["class"].sum() > 0
    assert set(folds["series_instance_uid"]) == set(catalogue["series_instance_uid"])
    assert "from tables" in lines
    assert any("candidates were proposed in" in line for line in lines)
    assert pd.read_parquet(settings.tables_dir / "reader_nodules.parquet")["texture"].eq(5).all()


def test_a_ct_is_searched_once(settings, annotated):
    settings = replace(settings, sources=("annotated",))
    catalogue, _, _ = make_tables(settings, lambda line: None)
    lines: list[str] = []
    first, _ = propose_candidates(settings, catalogue, lines.append)
    assert lines == []
    changed = catalogue.copy()
    changed.loc[0, "fingerprint"] = "other"
    again, _ = propose_candidates(settings, changed, lines.append)
    assert lines == ["Candidates proposed in 1 of 1 CTs."]
    pd.testing.assert_frame_equal(again, first)


def test_a_ct_that_cannot_be_searched_is_reported(settings, annotated):
    settings = replace(settings, sources=("annotated",))
    catalogue, _, _ = make_tables(settings, lambda line: None)
    gone = catalogue.head(1).assign(path="gone.mhd", fingerprint="other")
    table, notes = propose_candidates(settings, gone, lambda line: None)
    assert table.empty
    assert notes[1].startswith(f"Warning: No candidates in {gone['series_instance_uid'][0]}: A CT must be")
    lines: list[str] = []
    found, _ = propose_candidates(settings, gone.assign(path=catalogue["path"]), lines.append)
    # Searched again, since it failed; the proposals of the others are kept.
    assert lines == ["Candidates proposed in 1 of 1 CTs."]
    assert len(found)
    again, _ = propose_candidates(settings, catalogue.iloc[1:], lines.append)
    assert len(lines) == 1
    assert len(again)


def test_an_interrupted_search_keeps_what_it_found(settings, annotated, monkeypatch):
    settings = replace(settings, sources=("annotated",))
    catalogue, _ = catalogue_of(settings)
    searched = []

    def interrupt(line):
        searched.append(line)
        if len(searched) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        propose_candidates(settings, catalogue, interrupt)
    lines: list[str] = []
    propose_candidates(settings, catalogue, lines.append)
    assert lines[-1] == "Candidates proposed in 4 of 4 CTs."


def test_patients_that_become_known_are_in_the_kept_folds(settings, monkeypatch):
    catalogue, _, folds = make_tables(settings, lambda line: None)
    assert folds["patient_hash"].isna().all()
    monkeypatch.setattr(Luna16, "patients", lambda self, root: dict.fromkeys(catalogue["series_instance_uid"], "one"))
    lines: list[str] = []
    _, _, again = make_tables(settings, lines.append)
    assert list(again["fold"]) == list(folds["fold"])
    assert again["patient_hash"].nunique() == 1
    assert any(line.startswith("Warning: Patient ") and "must be in one fold, got [0, 1, 2]" in line for line in lines)


def test_tables_of_another_source_or_policy_are_outdated(settings, annotated):
    make_tables(settings, lambda line: None)
    assert outdated_tables(settings) is None
    assert outdated_tables(replace(settings, malignancy_policy="mean")) == (
        "the malignancy policy is mean, and was book"
    )
    assert outdated_tables(replace(settings, sources=("annotated",))) == (
        "the data sources are annotated, and were luna16"
    )


def test_tables_that_another_machine_made_are_refused(settings, annotated):
    settings = replace(settings, sources=("annotated",))
    make_tables(settings, lambda line: None)
    shutil.rmtree(settings.source_tables_dir)
    with pytest.raises(FileNotFoundError, match="must be on this machine"):
        tables_root(settings)


def test_an_unknown_source_is_refused(settings):
    with pytest.raises(ValueError, match=r"The data source must be one of luna16, .*got 'luna17'"):
        sources_of(settings, ["luna17"])


def test_the_environment_names_sources():
    assert Settings.from_environment({"LUNA_SOURCE": "luna16, lidc_idri,"}).sources == ("luna16", "lidc_idri")


def test_kept_folds_that_part_a_scan_are_reported(settings):
    catalogue, _, folds = make_tables(settings, lambda line: None)
    first, other = (folds.loc[folds["fold"] == fold, "series_instance_uid"].iloc[0] for fold in (0, 1))
    pairs = same_scans_table([]).reindex([0]).assign(series_a=first, series_b=other, kind="equal")
    settings.tables_dir.mkdir(exist_ok=True)
    pairs.to_parquet(settings.tables_dir / "same_scans.parquet")
    (line,) = describe_fold_table(settings, catalogue, folds)
    assert line.startswith("Warning: The same scan must be in one fold, got [0, 1] (")
