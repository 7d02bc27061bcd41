"""Descriptions written, validated and loaded back by mlcroissant, without a network."""

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.croissant.files import changed_files, described_file, write_manifest
from luna_pipeline.core.croissant.loading import check_croissant, read_records
from luna_pipeline.core.croissant.metadata import DescribedTables, croissant_json
from luna_pipeline.core.sources.luna16 import Luna16
from luna_pipeline.core.storage.files import sha256_of

CANDIDATES = pd.DataFrame(
    {
        "candidate_id": np.arange(5, dtype=np.int64) * 10**15,
        "series_instance_uid": pd.Categorical(["1.1", "1.1", "1.2", "1.2", "1.10"]),
        "x_mm": [0.1 + 0.2, -1e-7, 2.0, 3.0, 4.0],
        "class": np.array([0, 1, 0, 1, 0], dtype=np.int8),
        "diameter_mm": [np.nan, 3.25, np.nan, 4.0, np.nan],
        "is_malignant": pd.array([None, True, None, False, None], dtype="boolean"),
        "source": pd.Categorical(["candidate", "annotation", "candidate", "annotation", "candidate"]),
        "secret": "not described",
    }
)
FOLDS = pd.DataFrame({"series_instance_uid": ["1.1", "1.10", "1.2"], "fold": [0, 3, 1], "patient_hash": "hash"})


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a description must need no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def tables(tmp_path) -> DescribedTables:
    for folder in ("tables", "cutouts"):
        (tmp_path / folder).mkdir()
    described = []
    for name, table in (("candidates", CANDIDATES), ("folds", FOLDS)):
        path = tmp_path / f"tables/{name}.parquet"
        table.to_parquet(path, index=False)
        described.append((described_file(tmp_path, path, encoding="application/x-parquet", description=name), table))
    files = {uid: tmp_path / f"cutouts/{uid}.npz" for uid in ("1.1", "1.2")}
    for path in files.values():
        path.write_bytes(path.name.encode())
    write_manifest(tmp_path / "cutouts.csv", files)
    return DescribedTables(
        cards=[Luna16.card],
        is_synthetic=False,
        version="1.0.0",
        published=datetime(2026, 1, 2, tzinfo=UTC),
        candidates=described[0],
        folds=described[1],
        manifest=described_file(tmp_path, tmp_path / "cutouts.csv", encoding="text/csv", description="files"),
        cutouts="cutouts/*.npz",
    )


def written(folder, tables):
    path = folder / "croissant.json"
    path.write_text(json.dumps(croissant_json(tables)))
    return path


def test_candidates_are_read_back_as_the_parquet_has_them_with_their_folds(tmp_path, tables):
    path = written(tmp_path, tables)
    assert check_croissant(path) == []
    records = read_records(path, "candidates").sort_values("candidate_id", ignore_index=True)
    expected = CANDIDATES.drop(columns="secret").merge(FOLDS[["series_instance_uid", "fold"]])
    assert list(records.columns) == list(expected.columns)
    for name in expected.columns:
        read = records[name].astype(object)
        assert read.where(read.notna(), None).tolist() == (
            expected[name].astype(object).where(expected[name].notna(), None).tolist()
        ), name


def test_splits_folds_and_cutout_files_are_described(tmp_path, tables):
    path = written(tmp_path, tables)
    assert read_records(path, "splits").to_dict("list") == {"fold": [0, 1, 3], "name": ["fold_0", "fold_1", "fold_3"]}
    assert read_records(path, "folds").to_dict("list") == {
        "series_instance_uid": ["1.1", "1.10", "1.2"],
        "fold": [0, 3, 1],
    }
    files = read_records(path, "cutout_files")
    assert files["file"].tolist() == ["cutouts/1.1.npz", "cutouts/1.2.npz"]
    assert files["sha256"].tolist() == [sha256_of(tmp_path / name) for name in files["file"]]


def test_the_description_names_licence_citation_traps_and_no_path_or_patient(tmp_path, tables):
    made = croissant_json(tables)
    assert made["name"] == "luna16"
    assert made["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert made["license"] == Luna16.card.licence
    assert made["citeAs"] == Luna16.card.citation
    assert made["datePublished"] == "2026-01-02"
    text = json.dumps(made)
    assert "Research use only" in text
    assert Luna16.card.traps[0] in text
    assert not any(word in text for word in (str(tmp_path), "patient_hash", "secret"))
    by_id = {item["@id"]: item for item in made["distribution"]}
    assert by_id["candidates.parquet"]["sha256"] == sha256_of(tmp_path / "tables/candidates.parquet")


def test_synthetic_data_have_their_own_name_and_no_licence_of_others(tables):
    made = croissant_json(replace(tables, is_synthetic=True))
    assert made["name"] == "luna16-synthetic"
    assert "Synthetic data" in made["description"]
    assert "citeAs" not in made
    assert "CC BY" not in made["license"]


@pytest.mark.parametrize("name", ["tables/candidates.parquet", "tables/folds.parquet", "cutouts.csv"])
def test_a_file_with_other_bytes_is_refused(tmp_path, tables, name):
    path = written(tmp_path, tables)
    with (tmp_path / name).open("ab") as file:
        file.write(b" ")
    record_set = {"cutouts.csv": "cutout_files"}.get(name, "candidates")
    with pytest.raises(ValueError, match="not identical") as refused:
        read_records(path, record_set)
    assert "luna export_croissant" in str(refused.value)


def test_changed_and_missing_cutout_files_are_found_by_the_manifest(tmp_path, tables):
    assert changed_files(tmp_path / "cutouts.csv") == []
    (tmp_path / "cutouts/1.1.npz").write_bytes(b"other")
    (tmp_path / "cutouts/1.2.npz").unlink()
    assert changed_files(tmp_path / "cutouts.csv") == ["cutouts/1.1.npz", "cutouts/1.2.npz"]


@pytest.mark.parametrize("content", ["{}", "no JSON", '{"@type": "sc:Dataset", "name": "x"}'])
def test_what_is_no_description_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "croissant.json").write_text(content)
    with pytest.raises(ValueError, match="Croissant description") as refused:
        check_croissant(tmp_path / "croissant.json")
    assert "\n" not in str(refused.value)
