"""Technique of a series by the header of a slice."""

import math

import numpy as np
import pytest
from pydicom import Dataset, Sequence

from luna_pipeline.core.ct.formats import dicom_acquisition
from luna_pipeline.core.ct.formats.dicom_acquisition import Acquisition, acquisitions_of_folder, read_acquisition
from luna_pipeline.core.ct.formats.dicom_headers import read_slices
from luna_pipeline_tests.phantoms import write_dicom_series

HOUNSFIELD = np.full((3, 8, 8), -1000, dtype=np.int16)
TAGS = {
    "ManufacturerModelName": "LightSpeed",
    "ConvolutionKernel": "STANDARD",
    "KVP": "120",
    "XRayTubeCurrent": "300",
    "ExposureTime": "500",
    "Exposure": "4684",
    "ContrastBolusAgent": "IV",
    "PatientPosition": "FFS",
    "PatientName": "Doe^Jane",
    "StudyDate": "20000101",
}


def acquired(folder, **tags) -> Acquisition:
    return acquisitions_of_folder(write_dicom_series(folder / "ct", "1.2", HOUNSFIELD, tags=tags), {"1.2"})["1.2"]


def test_technique_is_read_and_nothing_of_the_patient(tmp_path):
    found = acquired(tmp_path, **TAGS)
    assert found == Acquisition(
        model="LightSpeed", kernel="STANDARD", tube_kv=120.0, tube_mas=150.0, contrast="given", position="FFS"
    )
    assert not any(word in str(found) for word in ("Doe", "2000", "IV"))


def test_what_the_header_does_not_state_is_unknown(tmp_path):
    found = acquired(tmp_path, KVP="", ContrastBolusAgent="", PatientPosition="ON HIS HEAD")
    assert (found.model, found.kernel, found.contrast, found.position) == (None, None, None, None)
    assert math.isnan(found.tube_kv)
    assert math.isnan(found.tube_mas)


@pytest.mark.parametrize(
    ("agent", "contrast"), [("NONE", "not given"), ("no", "not given"), ("ORAL & IV CONTRAST", "given"), ("", None)]
)
def test_contrast_is_what_the_header_says(tmp_path, agent, contrast):
    assert acquired(tmp_path, ContrastBolusAgent=agent).contrast == contrast


def test_the_exposure_counts_where_current_and_time_are_missing(tmp_path):
    assert acquired(tmp_path, Exposure="32", XRayTubeCurrent="300").tube_mas == 32.0


def test_several_kernels_are_joined_and_long_or_odd_text_is_cut(tmp_path):
    assert acquired(tmp_path, ConvolutionKernel=["Br40f", "3"]).kernel == "Br40f/3"
    assert acquired(tmp_path / "odd", ManufacturerModelName="a\tb" + "x" * 60).model == "a?b" + "x" * 37


def test_other_series_and_damaged_files_of_the_folder_are_skipped(tmp_path):
    folder = write_dicom_series(tmp_path, "1.2", HOUNSFIELD, tags={"ConvolutionKernel": "SOFT"})
    write_dicom_series(folder, "1.1", HOUNSFIELD, tags={"ConvolutionKernel": "BONE"}, prefix="another")
    (folder / "aaa.dcm").write_bytes(b"damaged")
    assert {uid: found.kernel for uid, found in acquisitions_of_folder(folder, {"1.2", "1.3"}).items()} == {
        "1.2": "SOFT"
    }


def test_no_header_is_read_twice_and_none_after_the_last_series_is_found(tmp_path, monkeypatch):
    for uid in ("1.1", "1.2", "1.3"):
        write_dicom_series(tmp_path / "ct", uid, HOUNSFIELD, tags={"ConvolutionKernel": uid}, prefix=uid)
    read = []
    monkeypatch.setattr(dicom_acquisition, "read_slices", lambda path: read.append(path.name) or read_slices(path))
    found = acquisitions_of_folder(tmp_path / "ct", {"1.1", "1.2"})
    assert {uid: technique.kernel for uid, technique in found.items()} == {"1.1": "1.1", "1.2": "1.2"}
    assert read == [f"1.1000{number}.dcm" for number in (1, 2, 3)] + ["1.20001.dcm"]


def test_functional_groups_of_enhanced_ct_are_read(tmp_path):
    reconstruction, details, exposure = Dataset(), Dataset(), Dataset()
    reconstruction.ConvolutionKernel = "B70f"
    details.KVP = 100.0
    exposure.XRayTubeCurrentInmA, exposure.ExposureTimeInms = 200.0, 600.0
    groups = Dataset()
    groups.CTReconstructionSequence = Sequence([reconstruction])
    groups.CTXRayDetailsSequence = Sequence([details])
    groups.CTExposureSequence = Sequence([exposure])
    tags = {"SharedFunctionalGroupsSequence": Sequence([groups]), "ContrastBolusAgentSequence": Sequence([Dataset()])}
    path = next(write_dicom_series(tmp_path, "1.2", HOUNSFIELD, tags=tags).iterdir())
    found = read_acquisition(path)
    assert (found.kernel, found.tube_kv, found.tube_mas, found.contrast) == ("B70f", 100.0, 120.0, "given")
