"""Several data sources in one catalogue, one set of tables and one table of folds."""

import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from luna_pipeline.core.candidates.folds import assign_folds
from luna_pipeline.core.sources.combined import (
    catalogue_of_sources,
    combined_tables,
    left_out_rows,
    own_folds,
)
from luna_pipeline.core.sources.located import LocatedSource, locate_sources
from luna_pipeline.core.sources.luna16 import Luna16
from luna_pipeline.core.sources.source import POINT, READER_COLUMNS, DataSource, SourceTables
from luna_pipeline.core.sources.table_rules import ratings_of

KEY = b"k" * 32


class Clinic(DataSource):
    """A source without candidates, whose patients and folds are in tables."""

    card = Luna16.card

    def is_at(self, root):
        return (root / "patients").exists()

    def is_scan(self, path):
        return "mask" not in path.name

    def patients(self, root):
        return {uid: "PHANTOM-0000" for uid in (root / "patients").read_text().split()}

    def tables(self, root, catalogue):
        uids = catalogue["series_instance_uid"]
        rows = pd.DataFrame({name: 1.0 for name in POINT[1:]}, index=uids).reset_index()
        return SourceTables(
            annotations=rows.assign(diameter_mm=4.0), scans=None, notes=("Warning: one", f"{len(rows)} rows")
        )

    def folds(self, root, catalogue):
        return dict.fromkeys(catalogue["series_instance_uid"], 4)


def points(rows):
    """A point at (1, 1, 1) mm in each series."""
    return rows[["series_instance_uid"]].assign(**dict.fromkeys(POINT[1:], 1.0)).reset_index(drop=True)


def of_source(catalogue, name):
    return catalogue.loc[catalogue["is_readable"] & (catalogue["data_source"] == name), "series_instance_uid"]


@pytest.fixture
def located(phantom_source, tmp_path):
    """Two sources: the phantom, and a clinic with a copy of its first CT, a second of its own, and a mask."""
    shutil.copytree(phantom_source, tmp_path / "luna16")
    folder = tmp_path / "clinic"
    folder.mkdir()
    first, second = sorted((tmp_path / "luna16").glob("subset*/*.mhd"))[:2]
    for path, name in ((first, first.stem), (second, "9.9"), (second, "9.9_mask")):
        text = path.read_text().replace(path.stem, name)
        (folder / f"{name}.mhd").write_text(text)
        shutil.copy(path.with_suffix(".raw"), folder / f"{name}.raw")
    (folder / "patients").write_text(f"{first.stem} 9.9")
    return [
        LocatedSource("luna16", Luna16(), tmp_path / "luna16"),
        LocatedSource("clinic", Clinic(), folder),
    ], first.stem


@pytest.fixture
def catalogue(located, tmp_path):
    return catalogue_of_sources(located[0], data_root=tmp_path, patient_key=KEY)


def test_a_shared_scan_is_read_from_the_first_source(located, catalogue, tmp_path):
    shared = catalogue[catalogue["series_instance_uid"] == located[1]]
    assert list(shared["data_source"].astype(str)) == ["luna16", "clinic"]
    assert list(shared["is_readable"]) == [True, False]
    left_out, lines = left_out_rows(catalogue)
    assert left_out.empty
    assert lines == ["1 scans of clinic are in an earlier data source, too, and are read from there."]
    turned = catalogue_of_sources(located[0][::-1], data_root=tmp_path, patient_key=KEY)
    assert list(turned.loc[turned["is_readable"], "data_source"].value_counts()) == [5, 2]


def test_masks_are_no_scans_and_paths_are_relative_to_the_data_root(catalogue):
    assert set(catalogue.loc[catalogue["data_source"] == "clinic", "path"].str.startswith("clinic/")) == {True}
    assert "9.9_mask" not in set(catalogue["series_instance_uid"])


def test_an_earlier_catalogue_is_adopted_with_patients_as_the_tables_name_them_now(located, catalogue, tmp_path):
    again = catalogue_of_sources(located[0], data_root=tmp_path, patient_key=KEY, kept=catalogue)
    pd.testing.assert_frame_equal(again, catalogue)
    (located[0][1].root / "patients").write_text("")
    without = catalogue_of_sources(located[0], data_root=tmp_path, patient_key=KEY, kept=catalogue)
    assert without["patient_hash"].isna().all()


def test_rows_of_a_shared_scan_come_from_its_own_source_alone(located, catalogue):
    asked = []

    def propose(rows):
        asked.extend(rows["series_instance_uid"])
        near = pd.DataFrame({name: [1.5, 9.0] for name in POINT[1:]})
        return near.assign(series_instance_uid="9.9")

    tables = combined_tables(located[0], catalogue, propose=propose)
    assert asked == ["9.9"]
    of_clinic = tables.candidates[tables.candidates["series_instance_uid"] == "9.9"]
    # 0.87 mm and 13.9 mm from a nodule with a radius of 2 mm.
    assert list(of_clinic["class"]) == [1, 0]
    annotated = tables.annotations["series_instance_uid"].value_counts()
    assert annotated["9.9"] == 1
    of_shared = tables.annotations[tables.annotations["series_instance_uid"] == located[1]]
    assert "1.0" not in set(of_shared["diameter_mm"].astype(str))
    assert tables.notes[-2:] == ("Warning: clinic: one", "clinic: 2 rows")
    # The phantom lists its scans; the clinic has all of its own evaluated.
    assert sorted(tables.scans) == sorted(set(catalogue.loc[catalogue["is_readable"], "series_instance_uid"]))


class PartlyAnnotated(Clinic):
    """A source with scans of a test set, whose nodules are not known."""

    def tables(self, root, catalogue):
        return replace(super().tables(root, catalogue), scans=["9.8"])


def test_scans_without_annotations_get_no_candidates(located, catalogue):
    clinic = replace(located[0][1], source=PartlyAnnotated())

    def propose(rows):
        assert rows.empty
        return pd.DataFrame(columns=list(POINT))

    assert combined_tables([clinic], catalogue, propose=propose).candidates.empty


def test_one_patient_in_two_sources_is_in_one_fold(located, catalogue):
    own = own_folds(located[0], catalogue)
    assert own == {"9.9": 4}
    subset = int(catalogue.loc[catalogue["series_instance_uid"] == located[1], "subset"].iloc[0])
    catalogue.loc[catalogue["series_instance_uid"] == located[1], "patient_hash"] = catalogue.loc[
        catalogue["series_instance_uid"] == "9.9", "patient_hash"
    ].iloc[0]
    folds = assign_folds(catalogue, own=own).set_index("series_instance_uid")["fold"]
    # The first source's fold counts, though the clinic has its own.
    assert folds["9.9"] == folds[located[1]] == subset != 4


def test_one_scan_under_two_names_is_in_one_fold(catalogue):
    uids = list(catalogue.loc[catalogue["is_readable"] & (catalogue["data_source"] == "luna16"), "series_instance_uid"])
    links = dict.fromkeys(["9.9", uids[-1]], "same")
    folds = assign_folds(catalogue, own={"9.9": 4}, links=links).set_index("series_instance_uid")["fold"]
    assert folds["9.9"] == folds[uids[-1]] != 4
    without = assign_folds(catalogue, own={"9.9": 4}).set_index("series_instance_uid")["fold"]
    assert without["9.9"] == 4


def test_scans_of_nodules_alone_are_not_evaluated_beside_annotated_ones(located, catalogue):
    class Alone(Clinic):
        def tables(self, root, rows):
            return SourceTables(candidates=points(rows).assign(**{"class": 1}))

    luna16, clinic = located[0]
    both = [luna16, LocatedSource("clinic", Alone(), clinic.root)]
    (luna16.root / "seriesuids.csv").unlink()
    tables = combined_tables(both, catalogue, propose=pd.DataFrame.head)
    assert sorted(tables.scans) == sorted(of_source(catalogue, "luna16"))
    alone = catalogue_of_sources(both[1:], data_root=clinic.root.parent, patient_key=KEY)
    assert combined_tables(both[1:], alone, propose=pd.DataFrame.head).scans is None


def test_readers_of_a_source_in_luna16s_form_are_kept(located, catalogue):
    class Read(Luna16):
        def readers(self, root, rows):
            return points(rows).reindex(columns=list(READER_COLUMNS))

    luna16, clinic = located[0]
    both = [LocatedSource("luna16", Read(), luna16.root), clinic]
    assert len(combined_tables(both, catalogue, propose=points).readers) == 6


def test_the_table_names_patients_of_dicom_files_too_and_no_name_is_no_patient(located, tmp_path):
    rows = pd.DataFrame({"series_instance_uid": ["a", "b", "c"], "format": ["dicom", "dicom", "metaimage"]})
    source = Clinic()
    source.catalogue = lambda root, **options: rows.assign(patient_hash=["of file", "of file", "stale"])
    source.patients = lambda root: {"a": "smith", "b": " "}
    (first,) = (located[0][1],)
    made = catalogue_of_sources([LocatedSource("clinic", source, first.root)], data_root=tmp_path, patient_key=KEY)
    assert len(made["patient_hash"][0]) == 64
    assert made["patient_hash"][1] == "of file"
    assert made["patient_hash"][2] is None


def test_text_tables_of_luna16_are_matched_with_proposed_candidates(located, catalogue):
    luna16, clinic = located[0]
    (luna16.root / "candidates_V2.csv").unlink()
    first = pd.read_csv(luna16.root / "annotations.csv").iloc[0]

    def propose(rows):
        if first["seriesuid"] not in set(rows["series_instance_uid"]):
            return points(rows)
        place = dict(zip(POINT, [[first["seriesuid"]], *([first[f"coord{axis}"]] for axis in "XYZ")], strict=True))
        return pd.DataFrame(place)

    tables = combined_tables([luna16, clinic], catalogue, propose=propose)
    of_first = tables.candidates[tables.candidates["series_instance_uid"] == first["seriesuid"]]
    assert list(of_first["class"]) == [1]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("annotations", {"diameter_mm": None}, "must have its columns, got none named diameter_mm (table annotations"),
        (
            "ratings",
            {"ratings": [4.7]},
            "list of whole numbers from 1 to 5, got [4.7] (table ratings",
        ),
        ("ratings", {"ratings": 5.0}, "Ratings must be a list of whole numbers from 1 to 5, got 5.0"),
        ("candidates", {"is_malignant": "yes"}, "A label must be true or false, got 'yes' (table candidates"),
    ],
)
def test_tables_of_an_own_source_are_checked_and_named(located, catalogue, name, change, said):
    class Odd(Clinic):
        def tables(self, root, rows):
            table = points(rows).assign(diameter_mm=4.0, **{"class": 1})
            (column, value), *_ = change.items()
            table[column] = [value] * len(table)
            return SourceTables(**{name: table.drop(columns=column) if value is None else table})

    clinic = located[0][1]
    with pytest.raises(ValueError, match=re.escape(said)):
        combined_tables([LocatedSource("clinic", Odd(), clinic.root)], catalogue, propose=points)


def test_ratings_that_are_not_known_are_empty():
    assert [ratings_of(value) for value in (None, float("nan"), pd.NA, [], (4.0, 5), [6])] == [
        [],
        [],
        [],
        [],
        [4, 5],
        None,
    ]


def test_links_join_patients(catalogue):
    rows = catalogue[catalogue["is_readable"]].head(4).assign(subset=pd.NA, data_source="luna16")
    rows["patient_hash"] = ["a", "a", "b", None]
    a, b, c, d = rows["series_instance_uid"]
    folds = assign_folds(rows, links={b: "s", c: "s"}, num_folds=4).set_index("series_instance_uid")
    assert len({folds["fold"][uid] for uid in (a, b, c)}) == 1
    assert folds["fold"][d] != folds["fold"][a]
    assert folds["rule"][d] == "series"
    alone = assign_folds(rows.assign(patient_hash=None), links={c: "s"}, num_folds=4)
    assert alone.set_index("series_instance_uid")["rule"][c] == "same scan"


def test_several_sources_must_have_their_folders(tmp_path, located):
    with pytest.raises(ValueError, match="one of"):
        locate_sources(tmp_path, ["luna16", "clinic"])
