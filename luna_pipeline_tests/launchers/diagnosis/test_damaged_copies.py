"""Copies of a real scan with one fault each: refused by name or right within 0.1 mm, none silently wrong."""

import re
from pathlib import Path

import pytest
import SimpleITK as sitk

from benchmarks import damaged_copies
from benchmarks.damaged_copies import REFUSED, all_copies, measured, table_of
from benchmarks.damaged_scan import RIGHT, small_scan

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[3]
FAULTS = {"missing slice", "doubled slice", "shuffled slices", "uneven slices", "tilted gantry", "flipped axes"}
FAULTS |= {"mixed series", "truncated file", "wrong slope", "few slices", "no CT", "wrong geometry", "wrong header"}


@pytest.fixture(scope="module")
def outcomes(lidc_root, tmp_path_factory):
    (folder,) = (lidc_root / "LIDC-IDRI-0003").glob("LIDC-IDRI-0003/*/*")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    scan = small_scan(folder, tmp_path_factory.mktemp("small"))
    found = measured(scan, tmp_path_factory.mktemp("copies"))
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    return found


def test_there_are_more_than_sixty_copies_of_every_kind():
    copies = list(all_copies())
    assert len(copies) >= 60
    assert len({copy.name for copy in copies}) == len(copies)
    assert {copy.fault for copy in copies} >= FAULTS


def test_every_copy_is_refused_or_right(outcomes):
    assert [(item.copy.name, item.ours) for item in outcomes if item.ours not in {REFUSED, RIGHT}] == []


def test_a_refusal_is_one_line_with_a_rule_what_was_got_and_what_to_do(outcomes):
    for reason in (item.reason for item in outcomes if item.ours == REFUSED):
        assert ", got" in reason
        assert "\n" not in reason
        assert reason.endswith((".", ")")), reason


HARMLESS = [
    "DICOM: missing slice, the first and the last",
    "DICOM: few slices, 20 of 24",
    "DICOM: doubled slice, every file twice",
    "DICOM: shuffled slices, file names",
    "DICOM: shuffled slices, instance numbers",
    "DICOM: uneven slices, slice thickness 1 mm instead of 2.5 mm",
    "DICOM: flipped axes, rows and columns, header too",
    "DICOM: mixed series, a localizer with its UID",
    "MetaImage .mha: flipped axes, sagittal slices, header too",
    "NRRD .nrrd: flipped axes, x and y, header too",
    "NIfTI .nii.gz: few slices, 20 of 24",
]


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_no_harm_is_read(outcomes, name):
    (outcome,) = (item for item in outcomes if item.copy.name == name)
    assert outcome.ours == RIGHT, outcome.reason


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DICOM: missing slice, the middle one", "evenly spaced, got a gap of 5 mm among gaps of 2.5 mm"),
        ("DICOM: doubled slice, another image at its place", "Slices must lie at different places"),
        ("DICOM: shuffled slices, positions of 3 and 20 swapped", "ImagePositionPatient and SliceLocation"),
        ("DICOM: uneven slices, 0.01 mm wider to the middle, then narrower", "0.1045 mm from its place"),
        ("DICOM: tilted gantry, 0.2 degrees", "a drift of 0.2007 mm over the scan"),
        ("DICOM: tilted gantry, the middle bent by 1 mm", "a drift of 1 mm"),
        ("DICOM: mixed series, a second series", "One CT is diagnosed at a time, got 2 series"),
        ("DICOM: truncated file, the middle one, half", "got 1 that do not: 012.dcm"),
        ("DICOM: wrong slope, slope 0", "RescaleSlope must not be 0"),
        ("DICOM: few slices, 1 of 24", "two slices or more, got 1"),
        ("DICOM: no CT, MR", "got 24 .*MR"),
        ("DICOM: no CT, localizer", "a localizer"),
    ],
)
def test_a_fault_is_refused_by_its_name(outcomes, name, words):
    (outcome,) = (item for item in outcomes if item.copy.name == name)
    assert outcome.ours == REFUSED
    assert re.search(words, outcome.reason), outcome.reason


def test_the_table_in_the_docs_is_that_of_these_copies_beside_simpleitks_results(outcomes):
    table = table_of(outcomes)
    assert table.count("\n| ") == len(outcomes) + 1
    assert len([item for item in outcomes if item.simpleitk.startswith("wrong")]) > 60
    assert "| DICOM | missing slice | the middle one | refused | wrong: voxels up to" in table
    in_docs = (ROOT / "docs/results/damaged_copies.md").read_text()
    assert [row_of(line) for line in table.splitlines()[4:]] == [row_of(line) for line in in_docs.splitlines()[4:]]


def row_of(line):
    """Format, fault, variant and our own result: the last column depends on the version of SimpleITK."""
    return line.split("|")[1:5]


def test_the_command_writes_the_table(lidc_root, tmp_path, monkeypatch):
    few = [next(all_copies())]
    monkeypatch.setattr(damaged_copies, "all_copies", lambda: iter(few))
    (folder,) = (lidc_root / "LIDC-IDRI-0003").glob("LIDC-IDRI-0003/*/*")
    assert damaged_copies.main(["--scan", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "| DICOM | missing slice | the second | refused |" in (tmp_path / "out/damaged_copies.md").read_text()
