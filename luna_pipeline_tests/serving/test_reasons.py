"""Reasons of failed jobs: rules and numbers are kept, texts of headers are not."""

import shutil

import pydicom
import pytest
from pydicom.dataelem import RawDataElement

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.launchers.diagnosis.input import read_input
from luna_pipeline.serving.reasons import reason_of, without_values
from luna_pipeline_tests.core.diagnosis.dicom_examples import UID, multi_frame_series
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct, write_dicom_series

NAME = "ZEBEDEE"
TEXTS = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    root = tmp_path_factory.mktemp("series")
    write_dicom_series(root / "slices", UID, random_hounsfield((4, 16, 16)))
    multi_frame_series(root / "multi-frame")
    return root


def reason_or_notes(folder):
    """What leaves the service of a CT: why it is refused, or its uid and notes."""
    try:
        given = read_input(folder)
    except (UnreadableCtError, FileNotFoundError, ValueError) as error:
        return reason_of(error, "job")
    return " ".join([given.series_instance_uid, *given.notes])


def write_with(path, out, tag):
    """Write a file with the name in one element, valid there or not."""
    dataset = pydicom.dcmread(path)
    holder = dataset.file_meta if tag.group == 2 else dataset
    value = f"{NAME} ".encode()
    holder._dict[tag] = RawDataElement(tag, holder[tag].VR, len(value), value, 0, False, True)
    with pydicom.config.disable_value_validation():
        dataset.save_as(out / path.name, enforce_file_format=False)


@pytest.mark.parametrize("kind", ["slices", "multi-frame"])
@pytest.mark.parametrize("is_in_all", [True, False])
def test_a_name_in_any_element_of_a_ct_is_in_no_reason_and_no_note(series, tmp_path, kind, is_in_all):
    files = sorted((series / kind).iterdir())
    dataset = pydicom.dcmread(files[0])
    tags = [element.tag for element in (*dataset.file_meta, *dataset) if element.VR in TEXTS]
    assert len(tags) >= 15
    shown = []
    for tag in tags:
        folder = tmp_path / str(tag)
        folder.mkdir()
        for number, file in enumerate(files):
            if is_in_all or number == 1:
                write_with(file, folder, tag)
            else:
                shutil.copy(file, folder)
        shown.append(reason_or_notes(folder))
    assert not [text for text in shown if NAME in text]
    # Some of the elements make the CT unreadable.
    assert kind == "multi-frame" or [text for text in shown if "got a text" in text]


@pytest.mark.parametrize("name", ["ElementType = MET_SHORT", "ElementSpacing = ", "NDims = 3", "ObjectType = Image"])
def test_a_name_in_a_volumes_header_is_in_no_reason(tmp_path, name):
    header = write_ct(tmp_path, "ct", random_hounsfield((4, 8, 8)))
    key = name.split(" ")[0]
    lines = [f"{key} = {NAME}" if line.startswith(f"{key} ") else line for line in header.read_text().splitlines()]
    header.write_text("\n".join(lines) + "\n")
    reason = reason_or_notes(tmp_path)
    assert NAME not in reason
    assert f"{key} must be" in reason
    assert "got a text" in reason


def test_an_unforeseen_error_is_named_by_its_kind(caplog):
    reason = reason_of(KeyError(NAME), "ab" * 16)
    assert "without an unforeseen error, got KeyError (diagnosis abab" in reason
    assert NAME not in reason
    assert [record.exc_info[0] for record in caplog.records] == [KeyError]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Rows must be 'n', got 'DOE' (a.dcm). Cut it.", "Rows must be 'n', got a text (a.dcm). Cut it."),
        ("X must be 3 numbers, got '1.5\\\\-2e3' (a).", "X must be 3 numbers, got '1.5\\\\-2e3' (a)."),
        (
            "X must be one, got \"D'OE\" (a). Copy the series' files.",
            "X must be one, got a text (a). Copy the series' files.",
        ),
        ("X must be one, got 'D\\'OE \"JANE\"' (a).", "X must be one, got a text (a)."),
        # Shortened in its middle: everything behind is left out.
        ("X must be one, got 'DOE^JA... (200 characters) (a).", "X must be one, got a text"),
        ("[Errno 28] No space left: '/a/DOE'", "[Errno 28] No space left: a text"),
        ("Slices must be evenly spaced, got a gap of 5 mm.", "Slices must be evenly spaced, got a gap of 5 mm."),
    ],
)
def test_quoted_values_are_left_out_and_numbers_kept(text, shown):
    assert without_values(text) == shown
