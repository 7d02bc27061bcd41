"""Input tables of an evaluation in their various forms, and one-line errors for invalid ones."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.evaluation.froc_files import check_marks, read_findings, read_froc_tables, read_scans
from luna_pipeline.core.evaluation.official import evaluate_froc

FINDINGS = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
MARKS = "seriesuid,coordX,coordY,coordZ,probability\n"


@pytest.fixture
def files(tmp_path):
    """Write a nodule in A with a mark on it, and a false mark in B."""
    texts = {
        "annotations": FINDINGS + "A,1.5,2,3,6\n",
        "excluded": FINDINGS,
        "series": "A\nB\n",
        "predictions": MARKS + "A,1,2,3,0.9\nB,1,2,3,0.8\n",
    }
    paths = {name: tmp_path / f"{name}.csv" for name in texts}
    for name, path in paths.items():
        path.write_text(texts[name])
    return paths


def read(files, **options):
    tables = read_froc_tables(**files, **options)
    return tables, check_marks(tables)


def counts(files, **options) -> tuple:
    values = evaluate_froc(read(files, **options)[0], **options).samples.counts
    return values["true_positives"], values["false_positives"], values["false_negatives"]


def test_tables_are_read_as_they_are(files):
    tables, said = read(files)
    assert tables.scans == ["A", "B"]
    assert tables.nodules["x_mm"].tolist() == [1.5]
    assert tables.marks["probability"].tolist() == [0.9, 0.8]
    assert said == []
    assert counts(files) == (1, 1, 0)


def test_packed_tables_are_the_same(files):
    for name, path in files.items():
        files[name] = path.with_suffix(".csv.gz")
        files[name].write_bytes(gzip.compress(path.read_bytes()))
    assert counts(files) == (1, 1, 0)


def test_columns_may_stand_in_any_order_and_be_more(files):
    files["predictions"].write_text("note,probability,coordZ,coordY,coordX,seriesuid\nx,0.9,3,2,1,A\n")
    assert counts(files) == (1, 0, 0)


def test_spaces_quotes_marks_of_order_and_blank_lines_are_borne(files):
    files["predictions"].write_text('\ufeffseriesuid, coordX,coordY,coordZ,probability\r\n"A", 1,2,3,0.9\r\n\r\n')
    files["series"].write_text("\ufeffA\r\n\r\nB,2.5\r\n")
    assert counts(files) == (1, 0, 0)
    assert read(files)[0].scans == ["A", "B"]


def test_without_a_list_of_excluded_findings_none_is_ignored(files):
    files["excluded"].write_text(FINDINGS + "B,1,2,3,-1\n")
    assert counts(files) == (1, 0, 0)
    assert counts({**files, "excluded": None}) == (1, 1, 0)


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "1e999"])
def test_a_score_that_is_not_finite_is_refused(files, value):
    files["predictions"].write_text(MARKS + f"A,1,2,3,0.9\nA,1,2,3,{value}\n")
    with pytest.raises(ValueError, match=rf"must be a finite number, got '{value}' \(predictions.csv line 3\)"):
        read(files)


def test_a_score_of_another_scan_may_be_anything(files):
    files["predictions"].write_text(MARKS + "A,1,2,3,0.9\nZ,1,2,3,nan\n")
    assert read(files)[1] == ["1 marks are of series that are not listed, and ignored."]


@pytest.mark.parametrize("name", ["annotations", "excluded", "predictions"])
def test_a_value_of_another_scan_need_not_be_a_number(files, name):
    files[name].write_text(files[name].read_text() + "Z,x,2,3,\n")
    assert counts(files) == (1, 1, 0)
    files["series"].write_text("A\nB\nZ\n")
    with pytest.raises(ValueError, match=rf"coordX must be a number, got 'x' \({name}.csv line"):
        read(files)


def test_findings_without_a_list_of_scans_are_numbers_all(files):
    files["annotations"].write_text(FINDINGS + "Z,1,2,3,x\n")
    with pytest.raises(ValueError, match="diameter_mm must be a number, got 'x'"):
        read_findings(files["annotations"])
    assert np.isnan(read_findings(files["annotations"], ["A"])["diameter_mm"]).all()


def test_a_list_of_scans_in_another_encoding_is_read(files):
    files["series"].write_bytes("A,größer\nB\n".encode("latin-1"))
    assert read(files)[0].scans == ["A", "B"]


@pytest.mark.parametrize("column", ["probability", "coordX", "seriesuid"])
def test_a_missing_column_is_named(files, column):
    files["predictions"].write_text((MARKS + "A,1,2,3,0.9\n").replace(column, "other"))
    with pytest.raises(ValueError, match=rf"Column {column} must be in the table, got .*predictions.csv"):
        read(files)


@pytest.mark.parametrize("text", ["", MARKS])
def test_predictions_without_a_mark_are_refused(files, text):
    files["predictions"].write_text(text)
    with pytest.raises(ValueError, match=r"must have a header line, got an empty file|marks of the listed scans, got"):
        read(files)


def test_marks_of_other_scans_alone_are_refused(files):
    files["series"].write_text("C\n")
    with pytest.raises(ValueError, match=r"got none \(2 marks, 1 scans\)"):
        read(files)


@pytest.mark.parametrize(("name", "column"), [("predictions", "probability"), ("annotations", "diameter_mm")])
def test_an_empty_value_is_named_with_its_line(files, name, column):
    text = files[name].read_text().splitlines()
    files[name].write_text("\n".join([*text, "A,1,2,3,"]))
    with pytest.raises(ValueError, match=rf"{column} must be a number, got '' \({name}.csv line {len(text) + 1}\)"):
        read(files)


def test_a_table_that_is_not_there_is_named(files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got no file gone\.csv"):
        read({**files, "series": tmp_path / "gone.csv"})


def test_a_damaged_packed_table_is_named(files, tmp_path):
    files["predictions"] = tmp_path / "p.csv.gz"
    files["predictions"].write_bytes(gzip.compress(b"x" * 1000)[:-9])
    with pytest.raises(ValueError, match=r"packed table must be whole, got: .*p.csv.gz"):
        read(files)


def test_odd_scores_and_scans_are_taken_as_officially_and_said(files):
    files["predictions"].write_text(MARKS + "A,1,2,3,7\nB,1,2,3,-2\n")
    files["series"].write_text("seriesuid\nA\nB\nA\n")
    tables, said = read(files)
    assert len(tables.scans) == 4
    assert said == [
        "2 probabilities lie outside [0, 1], taken as they are.",
        "1 scans are listed again, and counted again where official.",
        "1 header in the list of scans counts as a scan.",
    ]


def test_corrected_a_header_in_the_list_of_scans_is_one(files):
    files["series"].write_text("seriesuid\nA\nB\n")
    assert read_scans(files["series"], is_corrected=True) == ["A", "B"]
    files["series"].write_text("A\nB\n")
    assert read_scans(files["series"], is_corrected=True) == ["A", "B"]


def test_the_list_of_scans_may_be_a_pipe(files):
    reader, writer = os.pipe()
    os.write(writer, b"A\nB\n")
    os.close(writer)
    assert read_scans(Path(f"/dev/fd/{reader}")) == ["A", "B"]
    os.close(reader)


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1e999", "100000", "-1e5", "1\0"])
@pytest.mark.parametrize("name", ["predictions", "annotations", "excluded"])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_positions_of_listed_scans_are_finite(files, name, value, place):
    """Officially, a mark at NaN is a false positive, and an annotation there is never found."""
    row = ["A", "1", "2", "3", "0.5"]
    row[place] = value
    line = len(files[name].read_text().splitlines()) + 1
    files[name].write_text(files[name].read_text() + ",".join(row) + "\n")
    with pytest.raises(ValueError, match=rf"coord[XYZ] must be a .*number.*, got '.*' \({name}.csv line {line}\)"):
        read(files)


@pytest.mark.parametrize("name", ["annotations", "excluded"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e200", "100000"])
def test_diameters_of_listed_scans_are_finite(files, name, value):
    files[name].write_text(FINDINGS + f"A,1,2,3,6\nA,1,2,3,{value}\n")
    with pytest.raises(ValueError, match=rf"diameter_mm must be a finite number .*'{value}' \({name}.csv line 3\)"):
        read(files)


def test_diameters_that_are_odd_on_purpose_keep_their_official_meaning(files):
    files["annotations"].write_text(FINDINGS + "A,1,2,7.9,-1\nB,1,2,3,0\n")
    assert counts(files) == (1, 1, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [("{}.mhd", "they end in '.mhd'"), ("'{}", 'they begin with "\'"'), ("sub/{}", "they begin with 'sub/'")],
)
def test_series_that_do_not_match_are_shown_beside_the_listed_ones(files, change, words):
    texts = {name: path.read_text() for name, path in files.items()}
    odd = change.format("A")
    files["predictions"].write_text(MARKS + f"{odd},1,2,3,0.9\n")
    with pytest.raises(ValueError, match="got none") as caught:
        read(files)
    assert words in str(caught.value)
    assert "'A' in the list" in str(caught.value)
    files["predictions"].write_text(texts["predictions"] + f"{odd},1,2,3,0.9\n")
    files["annotations"].write_text(texts["annotations"] + f"{odd},1,2,3,6\n")
    files["excluded"].write_text(texts["excluded"] + f"{odd},1,2,3,6\n")
    said = [line for line in read(files)[1] if words in line]
    assert [line.split(":")[0] for line in said] == [
        "Series of the predictions",
        "Series of the annotations",
        "Series of the excluded findings",
    ]
    files["annotations"].write_text(FINDINGS + f"{odd},1,2,3,6\n")
    assert any("No annotation is of a listed scan, of 1:" in line and words in line for line in read(files)[1])


def test_annotations_and_marks_that_are_there_twice_are_reported(files):
    files["annotations"].write_text(FINDINGS + "A,1.5,2,3,6\nA,1.5,2,3,6\nZ,0,0,0,1\nZ,0,0,0,1\n")
    files["predictions"].write_text(MARKS + "A,1,2,3,0.9\n" * 3)
    assert read(files)[1] == [
        "2 marks are there twice, and counted twice as officially.",
        "1 annotations are there twice, and counted twice as officially.",
    ]


@pytest.mark.parametrize("name", ["predictions", "annotations", "excluded", "series"])
@pytest.mark.parametrize("form", ["bom", "crlf", "cr", "quotes", "blanks"])
def test_forms_of_the_same_table_give_the_same_score(files, name, form):
    text = files[name].read_text()
    lines = [line.split(",") for line in text.splitlines()]
    quoted = "".join(",".join(f'"{value}"' for value in line) + "\n" for line in lines)
    spaced = "".join(" , ".join(line) + " \n" for line in lines)
    forms = {"bom": "\ufeff" + text, "crlf": text.replace("\n", "\r\n"), "cr": text.replace("\n", "\r")}
    files[name].write_bytes({**forms, "quotes": quoted, "blanks": spaced}[form].encode())
    assert counts(files) == (1, 1, 0)
    assert read(files)[1] == []


@pytest.mark.parametrize("name", ["predictions", "annotations", "excluded"])
@pytest.mark.parametrize(("separator", "kind"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_named(files, name, separator, kind):
    files[name].write_text(files[name].read_text().replace(",", separator))
    with pytest.raises(ValueError, match=rf"must be separated by commas, got {kind} \({name}.csv line 1\)"):
        read(files)


@pytest.mark.parametrize("name", ["predictions", "annotations", "excluded"])
def test_a_missing_header_is_named(files, name):
    files[name].write_text("A,1,2,3,0.9\n")
    with pytest.raises(ValueError, match=rf"must name the columns .*, got 5 other values \({name}.csv line 1\)"):
        read(files)
