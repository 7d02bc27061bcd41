"""LNDb's findings become reference nodules or excluded ones by a stated rule, and malformed tables are refused."""

import io
import math
import re

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.service import CtCutoutService
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline.core.sources.lndb import Lndb
from luna_pipeline.core.sources.lndb_tables import FINDINGS, diameter_of
from luna_pipeline.core.sources.located import locate_sources
from luna_pipeline.core.sources.luna16_form import luna16_form, write_luna16_form

SOURCE = Lndb()
BALL_3_MM = f"{4 / 3 * math.pi * 1.5**3:.10f}"
# Volumes of balls of 6 and 10 mm.
BALL_6, BALL_10 = "113.0973355292", "523.5987755983"

MARKS = f"""LNDbID,RadID,FindingID,Nodule,x,y,z,Volume,Text
1,1,1,1,10.5,20,30,{BALL_6},5
1,2,1,1,11.5,20,30,{BALL_6},4
1,1,2,1,40,41,42,{BALL_3_MM},5
1,1,3,0,50,51,52,{BALL_3_MM},0
2,1,1,1,-10,-20,-30,{BALL_10},1
9,1,1,1,1,2,3,{BALL_10},3
"""
FINDINGS_TABLE = f"""LNDbID,RadID,RadFindingID,FindingID,x,y,z,AgrLevel,Nodule,Volume,Text
1,"1,2","1,1",1,11,20,30,2,1,{BALL_6},4.5
1,1,2,2,40,41,42,1,1,{BALL_3_MM},5
1,1,3,3,50,51,52,0,0,{BALL_3_MM},0
2,1,1,1,-10,-20,-30,1,1,{BALL_10},1
9,1,1,1,1,2,3,1,1,{BALL_10},3
"""
FOLDS = "Fold0,Fold1,Fold2,Fold3\n1,2,3,9\n"
TABLES = {"trainNodules.csv": MARKS, "trainNodules_gt.csv": FINDINGS_TABLE, "trainFolds.csv": FOLDS}


def write(root, tables=TABLES, folder="trainset_csv"):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        (root / folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def catalogue_of(*numbers):
    """Scans of 300 mm around the origin; scan 4 is one of the test set."""
    rows = [
        {
            "series_instance_uid": f"LNDb-{number:04d}",
            "is_readable": True,
            "reason": None,
            "size_irc": [150, 300, 300],
            "spacing_mm": [1.0, 1.0, 2.0],
            "origin_xyz": [-150.0, -150.0, -150.0],
            "direction": [1.0, 0, 0, 0, 1, 0, 0, 0, 1],
        }
        for number in numbers or (1, 2, 3, 4)
    ]
    return pd.DataFrame(rows)


def tables_of(root, *numbers):
    return SOURCE.tables(root, catalogue_of(*numbers))


def test_findings_larger_than_3_mm_that_a_reader_took_for_a_nodule_are_the_reference(tmp_path):
    tables = tables_of(write(tmp_path))
    assert tables.annotations.to_numpy().tolist() == [
        ["LNDb-0001", 11.0, 20.0, 30.0, pytest.approx(6.0)],
        ["LNDb-0002", -10.0, -20.0, -30.0, pytest.approx(10.0)],
    ]
    # The placeholder of 3 mm is no diameter.
    assert tables.excluded.to_numpy().tolist() == [
        ["LNDb-0001", 40.0, 41.0, 42.0, -1.0],
        ["LNDb-0001", 50.0, 51.0, 52.0, -1.0],
    ]
    assert tables.candidates is None
    assert tables.ratings is None
    assert len(tables.rejected) == 0
    assert tables.notes[0] == (
        "LNDb: 2 reference nodules (2 by 1 or more, 1 by 2 or more, 0 by 3 or more readers); "
        "1 nodules of 3 mm or less and 1 non-nodules are excluded findings."
    )


def test_a_small_nodule_that_was_measured_keeps_its_diameter(tmp_path):
    small = FINDINGS_TABLE.replace(f"42,1,1,{BALL_3_MM}", "42,1,1,4.1887902048")
    excluded = tables_of(write(tmp_path, TABLES | {"trainNodules_gt.csv": small})).excluded
    assert excluded["diameter_mm"].tolist() == [pytest.approx(2.0), -1.0]


def test_volumes_of_non_nodules_and_volumes_of_0_are_no_diameters(tmp_path):
    other = FINDINGS_TABLE.replace(f"42,1,1,{BALL_3_MM}", "42,1,1,0").replace(
        f"52,0,0,{BALL_3_MM}", f"52,0,0,{BALL_10}"
    )
    excluded = tables_of(write(tmp_path, TABLES | {"trainNodules_gt.csv": other})).excluded
    assert excluded["diameter_mm"].tolist() == [-1.0, -1.0]


def test_the_diameter_is_that_of_a_ball_of_the_same_volume():
    assert diameter_of(np.array([0.0, 4 / 3 * math.pi])).tolist() == pytest.approx([0.0, 2.0])


def test_readers_have_their_marks_with_texture_by_nodule(tmp_path):
    readers = tables_of(write(tmp_path)).readers
    assert readers[["series_instance_uid", "x_mm", "nodule", "reader", "texture"]].to_numpy().tolist() == [
        ["LNDb-0001", 10.5, 1, 1, 5],
        ["LNDb-0001", 11.5, 1, 2, 4],
        ["LNDb-0002", -10.0, 1, 1, 1],
    ]
    assert readers["volume_mm3"].tolist()[0] == float(BALL_6)
    assert readers["malignancy"].isna().all()
    assert readers["texture"].dtype == "Int8"


def test_scans_are_those_with_annotations_and_folds_the_challenges(tmp_path):
    write(tmp_path)
    tables = tables_of(tmp_path)
    assert tables.scans == ["LNDb-0001", "LNDb-0002", "LNDb-0003"]
    assert tables.notes[1:] == (
        "LNDb: 1 CTs without annotations (the challenge's test set) are not evaluated.",
        "LNDb: 1 annotated CTs are not in the catalogue.",
    )
    assert SOURCE.folds(tmp_path, catalogue_of()) == {"LNDb-0001": 0, "LNDb-0002": 1, "LNDb-0003": 2}


def test_without_the_table_of_folds_scans_without_marks_are_unknown(tmp_path):
    write(tmp_path, {name: text for name, text in TABLES.items() if name != "trainFolds.csv"}, folder=".")
    assert SOURCE.is_at(tmp_path)
    tables = tables_of(tmp_path)
    assert tables.scans == ["LNDb-0001", "LNDb-0002"]
    assert tables.notes[1].startswith("Warning: trainFolds.csv is not there")
    assert SOURCE.folds(tmp_path, catalogue_of()) == {}


def test_masks_are_no_scans_and_a_patient_has_one_scan(tmp_path):
    for name in ("data0/LNDb-0001.mhd", "data0/LNDb-0001.raw", "data3/LNDb-0312.mhd", "masks/LNDb-0001_rad1.mhd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    is_scan = {path.name: SOURCE.is_scan(path) for path in tmp_path.rglob("LNDb-*")}
    assert is_scan == {
        "LNDb-0001.mhd": True,
        "LNDb-0001.raw": True,
        "LNDb-0312.mhd": True,
        "LNDb-0001_rad1.mhd": False,
    }
    assert not SOURCE.is_scan(tmp_path / "LNDb-0001_rad1-checkpoint.mhd")
    assert SOURCE.patients(tmp_path) == {"LNDb-0001": "LNDb-0001", "LNDb-0312": "LNDb-0312"}


def test_rows_outside_their_ct_are_rejected_with_their_line_and_the_likely_cause(tmp_path):
    """Coordinates are written in RAS; the CT lies on one side of the origin."""
    tables = write(tmp_path)
    catalogue = catalogue_of().assign(origin_xyz=[[0.0, 0.0, -150.0]] * 4)
    text = (
        FINDINGS_TABLE.replace(",11,20,", ",-11,-20,").replace(",40,41,", ",-40,-41,").replace(",50,51,", ",-50,-51,")
    )
    write(tmp_path, {"trainNodules_gt.csv": text.replace("-10,-20,-30", "10,20,-30")})
    tables = SOURCE.tables(tmp_path, catalogue)
    rejected = tables.rejected[tables.rejected["file"] == "trainNodules_gt.csv"]
    assert rejected["line"].tolist() == [2, 3, 4]
    assert set(rejected["reason"]) == {"outside the CT"}
    assert rejected["x"].tolist() == ["-11", "-40", "-50"]
    assert any("RAS instead of LPS" in note and note.startswith("Warning: trainNodules_gt") for note in tables.notes)


def test_marks_outside_their_ct_are_named_as_findings_are(tmp_path):
    catalogue = catalogue_of().assign(origin_xyz=[[0.0, 0.0, -150.0]] * 4)
    text = re.sub(r"^1,(.,.,.),([\d.]+),(\d+)", r"1,\1,-\2,-\3", MARKS, flags=re.M)
    tables = SOURCE.tables(write(tmp_path, TABLES | {"trainNodules.csv": text}), catalogue)
    assert any("RAS instead of LPS" in note and note.startswith("Warning: trainNodules.csv") for note in tables.notes)
    assert len(tables.readers) == 0


def test_an_unreadable_ct_rejects_its_rows(tmp_path):
    catalogue = catalogue_of().assign(is_readable=[False, True, True, True])
    rejected = SOURCE.tables(write(tmp_path), catalogue).rejected
    assert rejected.groupby("file").size().to_dict() == {"trainNodules.csv": 4, "trainNodules_gt.csv": 3}


def test_tables_of_two_versions_are_a_warning(tmp_path):
    other = FINDINGS_TABLE.replace('"1,1",1', '"1,7",1')
    tables = tables_of(write(tmp_path, TABLES | {"trainNodules_gt.csv": other}))
    assert tables.readers["nodule"].tolist() == [1, 1]
    (*_, note) = tables.notes
    assert note == (
        "Warning: LNDb: 1 marks of trainNodules.csv are in no finding, 1 marks of trainNodules_gt.csv "
        "are not in trainNodules.csv. Take both tables from one version of LNDb."
    )


@pytest.mark.parametrize("name", ["trainNodules.csv", "trainNodules_gt.csv"])
def test_a_missing_table_is_named(tmp_path, name):
    write(tmp_path, {other: text for other, text in TABLES.items() if other != name})
    assert not SOURCE.is_at(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(f"{name} at its top or in trainset_csv, got none")):
        tables_of(tmp_path)


def lines_changed(text, *changes):
    """Text with its lines changed: line number, old part, new part."""
    lines = text.split("\n")
    for number, old, new in changes:
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new, 1)
    return "\n".join(lines)


def semicolons(text):
    """Europe's CSV."""
    table = pd.read_csv(io.StringIO(text), dtype=str)
    return table.map(lambda cell: cell.replace(",", ";") if ";" in cell else cell.replace(".", ",")).to_csv(
        index=False, sep=";"
    )


GT, NODULES, SPLIT = "trainNodules_gt.csv", "trainNodules.csv", "trainFolds.csv"
HARMLESS = {
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "DOS line ends": lambda text: text.replace("\n", "\r\n"),
    "blank lines": lambda text: text.replace("\n", "\n\n"),
    "spaces": lambda text: re.sub(r",(?=[^\"]*(\"[^\"]*\"[^\"]*)*$)", " , ", text),
    "quotes around every value": lambda text: "\n".join(
        ",".join(f'"{cell.strip(chr(34))}"' for cell in re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', line)) if line else ""
        for line in text.split("\n")
    ),
    "spaces in lists": lambda text: text.replace('"1,2"', '"1, 2"'),
    "whole numbers as floats": lambda text: re.sub(r"^(\d+),", r"\1.0,", text, flags=re.M),
    "other columns": lambda text: "\n".join(f"{line},x{n}" if line else "" for n, line in enumerate(text.split("\n"))),
    "another order": lambda text: pd.read_csv(io.StringIO(text), dtype=str).iloc[:, ::-1].to_csv(index=False),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tables_of(write(tmp_path_factory.mktemp("plain")))


@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_forms_are_read_rightly(tmp_path, plain, kind):
    got = tables_of(write(tmp_path, TABLES | {name: HARMLESS[kind](TABLES[name]) for name in (GT, NODULES)}))
    for table in ("annotations", "excluded", "readers"):
        pd.testing.assert_frame_equal(getattr(got, table), getattr(plain, table))


MALFORMED = [
    (GT, lambda text: text.replace("AgrLevel", "Agreement"), "Column AgrLevel must be in the table", "line 1"),
    (NODULES, lambda text: text.replace("FindingID,", "Findings,"), "Column FindingID must be in the table", "line 1"),
    (GT, lambda text: text.replace(",x,", ",y,"), "Column x must be in the table", "line 1"),
    (GT, lambda text: text.split("\n", 1)[1], "The first line must name the columns", "line 1"),
    (NODULES, semicolons, "Values must be separated by commas", "line 1"),
    (GT, semicolons, "Values must be separated by commas", "line 1"),
    (NODULES, lambda text: lines_changed(text, (3, "11.5", '"11,5"')), "x must have a decimal point", "line 3"),
    (NODULES, lambda text: lines_changed(text, (3, "11.5", "11,5")), "A line must have 9 values", "line 3"),
    (GT, lambda text: text.replace('"', ""), "A line must have 11 values", "line 2"),
    (
        GT,
        lambda text: lines_changed(text, (2, '"1,2"', "1;2")),
        "RadID must be numbers, such as 1 or '1,2,3'",
        "line 2",
    ),
    (GT, lambda text: lines_changed(text, (2, '"1,2"', "[1 2]")), "RadID must be numbers", "line 2"),
    (GT, lambda text: lines_changed(text, (2, '"1,2"', '"1,2,3"')), "must have as many numbers", "line 2"),
    (GT, lambda text: lines_changed(text, (2, '"1,1"', '"1,1')), "A quote must be closed on its line", "line 2"),
    (GT, lambda text: lines_changed(text, (4, "52,0,0", "52,1,0")), "AgrLevel must count the readers", "line 4"),
    (GT, lambda text: lines_changed(text, (5, "-30,1,1", "-30,2,1")), "AgrLevel must count the readers", "line 5"),
    (GT, lambda text: lines_changed(text, (5, "-30,1,1", "-30,0,1")), "AgrLevel must count the readers", "line 5"),
    (GT, lambda text: lines_changed(text, (3, "1,1,2,2,", "1,1,2,1,")), "its own LNDbID, FindingID", "line 2, 3"),
    (NODULES, lambda text: lines_changed(text, (4, "1,1,2,", "1,1,1,")), "LNDbID, RadID, FindingID", "line 2, 4"),
    (NODULES, lambda text: lines_changed(text, (2, ",1,10.5", ",2,10.5")), "Nodule must be from 0 to 1", "line 2"),
    (
        NODULES,
        lambda text: lines_changed(text, (2, f"{BALL_6},5", f"{BALL_6},6")),
        "Text must be from 0 to 5",
        "line 2",
    ),
    (NODULES, lambda text: lines_changed(text, (5, "50,", "nan,")), "x must be a finite number", "line 5"),
    (NODULES, lambda text: lines_changed(text, (5, "50,", ",")), "x must have a value in each row", "line 5"),
    (NODULES, lambda text: lines_changed(text, (5, "50,", "left,")), "x must be a finite number", "line 5"),
    (NODULES, lambda text: lines_changed(text, (6, "2,1,1", "LNDb-0002,1,1")), "LNDbID must be a finite", "line 6"),
    (NODULES, lambda text: lines_changed(text, (6, "2,1,1", "2.5,1,1")), "LNDbID must be a whole number", "line 6"),
    (NODULES, lambda text: lines_changed(text, (6, "2,1,1", "0,1,1")), "LNDbID must be from 1", "line 6"),
    (NODULES, lambda text: lines_changed(text, (6, BALL_10, "-1")), "Volume must be from 0", "line 6"),
    (NODULES, lambda text: lines_changed(text, (6, "-10", "\0-10")), "x must have no NUL bytes", "line 6"),
    (GT, lambda text: text.encode("utf-16"), "A table must be text in UTF-8, got UTF-16", "trainNodules_gt.csv"),
    (GT, lambda text: text.encode("utf-32"), "A table must be text in UTF-8, got UTF-32", "trainNodules_gt.csv"),
    (GT, lambda text: text.replace("30,2", "30\xb2,2").encode("latin-1"), "z must be text in UTF-8", "line 2"),
    (GT, lambda text: b"PK\x03\x04" + text.encode(), "an Excel or ZIP file", "trainNodules_gt.csv"),
    (GT, lambda text: "<html>", "HTML or XML", "trainNodules_gt.csv"),
    (GT, lambda text: "", "an empty file", "trainNodules_gt.csv"),
    (SPLIT, lambda text: text.replace("1,2,3,9", "1,2,3,1"), "got 1 in Fold0 and Fold3", "line 2"),
    (SPLIT, lambda text: text.replace("1,2,3,9", "1,x,3,9"), "Fold1 must be a finite number", "line 2"),
    (SPLIT, lambda text: text.replace("Fold0", "fold"), "Column Fold0 must be in the table", "line 1"),
    (SPLIT, lambda text: text.replace(",", ";"), "separated by commas", "line 1"),
]


@pytest.mark.parametrize("number", range(len(MALFORMED)))
def test_malformed_tables_are_refused_with_the_line(tmp_path, number):
    name, change, rule, place = MALFORMED[number]
    write(tmp_path, TABLES | {name: change(TABLES[name])})
    with pytest.raises(ValueError, match="got") as error:
        tables_of(tmp_path)
    message = str(error.value)
    assert rule in message
    assert name in message
    assert place in message
    assert "\n" not in message


def test_volumes_in_millilitres_are_refused(tmp_path):
    """The units' classic: 113 mm³ are 0.113 ml."""
    small = re.sub(r"(\d+\.\d{10})", lambda found: f"{float(found[1]) / 1000:.10f}", FINDINGS_TABLE)
    write(tmp_path, TABLES | {GT: small})
    with pytest.raises(ValueError, match=r"Volume must be in mm³, got 0\.1130973355 .*line 2, 3, 5, 6\). Write mm³"):
        tables_of(tmp_path)


@pytest.mark.parametrize("volume", ["0", "0.5"])
def test_a_few_tiny_volumes_and_any_number_of_volumes_of_0_are_read(tmp_path, volume):
    changes = [(3, BALL_3_MM, volume), (5, BALL_10, volume)]
    text = lines_changed(FINDINGS_TABLE, *changes, *([(2, BALL_6, volume)] if volume == "0" else []))
    tables = tables_of(write(tmp_path, TABLES | {GT: text}))
    assert len(tables.annotations) == (0 if volume == "0" else 1)


def test_positions_of_the_tables_are_named_as_the_catalogue_does(tmp_path):
    rows = pd.DataFrame({"LNDbID": ["1", "x"], "x": ["1", "2"], "y": ["3", "4"], "z": ["5", "6"], "line": [2, 3]})
    found = FINDINGS.points_of(rows)
    assert found["series_instance_uid"].tolist() == ["LNDb-0001", ""]


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    root = tmp_path_factory.mktemp("lndb") / "data"
    make_phantom(root, num_series=3, num_subsets=2, seed=3, size_irc=(40, 64, 64), source="lndb")
    return root


def test_the_twin_goes_to_cutouts_and_its_nodules_lie_where_the_phantom_has_them(twin, tmp_path):
    (located,) = locate_sources(twin)
    assert located.name == "lndb"
    catalogue = SOURCE.catalogue(twin, data_root=twin, patient_key=b"key")
    assert catalogue["path"].tolist() == [f"data{k}/LNDb-{k + 1:04d}.mhd" for k in range(3)]
    tables = SOURCE.tables(twin, catalogue)
    assert len(tables.rejected) == 0
    write_luna16_form(tmp_path / "form", luna16_form(tables, SOURCE.folds(twin, catalogue)))
    candidates = build_candidates(tmp_path / "form", catalogue)
    assert candidates.counts["kept_annotations"] == len(tables.annotations) > 0
    service = CtCutoutService(
        data_root=twin,
        catalogue=catalogue,
        candidates=candidates.candidates,
        store=CutoutStore(tmp_path / "cutouts"),
        parameters=CuttingParameters(chunk_shape_irc=(8, 16, 16)),
    )
    summary = service.cut_many()
    assert (len(summary.cut), summary.failed) == (3, {})
    # The oracle: series 1 of the same seed, whose axes are flipped.
    series = make_series(PhantomConfig(seed=3, number=1, size_irc=(40, 64, 64)))
    mine = tables.annotations[tables.annotations["series_instance_uid"] == "LNDb-0002"]
    centers = np.array([nodule.center_xyz for nodule in series.findings.nodules])
    for point in mine[["x_mm", "y_mm", "z_mm"]].to_numpy():
        assert np.linalg.norm(centers - point, axis=1).min() < 1.0
    assert set(SOURCE.folds(twin, catalogue).values()) == {0, 1}


def test_the_twins_masks_hold_the_marks_numbers_at_their_places(twin):
    marks = pd.read_csv(twin / "trainset_csv" / "trainNodules.csv")
    nodules = marks[marks["Nodule"] == 1]
    assert len(nodules) > 3
    for row in nodules.to_dict("records"):
        mask = sitk.ReadImage(str(twin / "masks" / f"LNDb-{row['LNDbID']:04d}_rad{row['RadID']}.mhd"))
        place = mask.TransformPhysicalPointToIndex((row["x"], row["y"], row["z"]))
        assert mask[place] == row["FindingID"]


def test_the_twins_findings_are_its_marks_put_together(twin):
    tables = SOURCE.tables(twin, SOURCE.catalogue(twin, data_root=twin, patient_key=b"key"))
    assert not any("version" in note for note in tables.notes)
    means = tables.readers.groupby(["series_instance_uid", "nodule"])["volume_mm3"].mean()
    expected = diameter_of(means.to_numpy())
    assert sorted(tables.annotations["diameter_mm"]) == pytest.approx(sorted(expected))
