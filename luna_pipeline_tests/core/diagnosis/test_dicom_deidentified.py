"""De-identified DICOM objects: nothing of patient and study, but the UIDs by which they belong to their CT."""

import hashlib
import hmac
import io

import pydicom
import pytest

from luna_pipeline.core.ct.formats.dicom_series import DicomReader
from luna_pipeline.core.diagnosis.dicom_output import dicom_output
from luna_pipeline_tests.core.diagnosis.dicom_examples import UID, ball, case_of, multi_frame_series, series
from luna_pipeline_tests.core.diagnosis.test_dicom_checkers import run, tool
from luna_pipeline_tests.planted import DAY, NAME, plant_in_files

KEY = b"k" * 32
NAMES = ("seg.dcm", "sr.dcm")


@pytest.fixture(scope="module", params=["slices", "multi-frame"])
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "ct"
    (series if request.param == "slices" else multi_frame_series)(folder)
    reader = DicomReader(plant_in_files(folder), UID)
    return case_of(reader, ball(reader.grid()))


@pytest.fixture(scope="module")
def files(case):
    made = dicom_output(case.diagnosis, case.files, patient_key=KEY)
    assert made.notes == ()
    return made.files


def read(content):
    return pydicom.dcmread(io.BytesIO(content))


@pytest.mark.parametrize("name", NAMES)
def test_no_text_and_no_day_of_the_source_is_left(case, files, name):
    assert NAME.encode() not in files[name]
    assert DAY.encode() not in files[name]
    # The planted values do reach an object that is not de-identified.
    assert NAME.encode() in dicom_output(case.diagnosis, case.files).files[name]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_how_and_has_a_pseudonym_that_stays_the_same_for_a_patient(files, name):
    dataset = read(files[name])
    pseudonym = hmac.new(KEY, NAME.encode(), hashlib.sha256).hexdigest()[:16]
    assert (dataset.PatientID, str(dataset.PatientName), dataset.PatientIdentityRemoved) == (
        pseudonym,
        pseudonym,
        "YES",
    )
    codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113110"]
    for empty in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID"):
        assert dataset[empty].is_empty


def test_uids_still_lead_to_the_ct(case, files):
    images = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in case.files}
    for dataset in map(read, files.values()):
        assert dataset.StudyInstanceUID == f"{UID}.0"
    (referenced,) = read(files["seg.dcm"]).ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == UID
    assert {str(item.ReferencedSOPInstanceUID) for item in referenced.ReferencedInstanceSequence} <= images


def test_objects_with_other_content_have_other_uids(case, files):
    of_patient = dicom_output(case.diagnosis, case.files).files
    other_key = dicom_output(case.diagnosis, case.files, patient_key=b"j" * 32).files
    uids = {read(made[name]).SOPInstanceUID for made in (files, of_patient, other_key) for name in NAMES}
    assert len(uids) == 6
    assert dicom_output(case.diagnosis, case.files, patient_key=KEY).files == files


@pytest.mark.parametrize("name", NAMES)
def test_dciodvfy_finds_no_error(files, name, tmp_path):
    (tmp_path / name).write_bytes(files[name])
    assert "Error" not in run(tool("dciodvfy"), tmp_path / name, may_fail=True)
