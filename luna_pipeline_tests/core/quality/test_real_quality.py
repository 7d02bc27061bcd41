"""Facts of real scans, against pydicom's reading of all headers and NumPy's of all voxels."""

import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.formats.dicom_series import DicomReader
from luna_pipeline.core.quality.findings import find_broken
from luna_pipeline.core.quality.kept_facts import KeptFacts
from luna_pipeline.core.quality.scans import describe_scans
from luna_pipeline.core.quality.voxel_facts import BIN_HU, HISTOGRAM_HU

pytestmark = pytest.mark.real
LIDC_1, LIDC_3 = "059720603192", "033480003264"


def described(root: Path, folder: Path):
    catalogue = catalogue_series(root, patient_key=b"k" * 32)
    scans = describe_scans(catalogue, data_root=root, kept=KeptFacts(folder / "kept.json"), workers=1)
    return catalogue, scans


@pytest.fixture(scope="module")
def lidc(lidc_root: Path, tmp_path_factory: pytest.TempPathFactory):
    catalogue, scans = described(lidc_root, tmp_path_factory.mktemp("kept"))
    paths = dict(zip(catalogue["series_instance_uid"], catalogue["path"], strict=True))
    return {
        row["series_instance_uid"]: (lidc_root / paths[row["series_instance_uid"]], row) for _, row in scans.iterrows()
    }


def headers_of(folder: Path) -> list[pydicom.FileDataset]:
    files = [path for path in folder.iterdir() if path.suffix == ".dcm"]
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in files]


def test_geometry_and_technique_are_those_of_every_header(lidc):
    assert len(lidc) == 2
    for folder, row in lidc.values():
        headers = headers_of(folder)
        heights = np.sort([float(header.ImagePositionPatient[2]) for header in headers])
        assert row["num_slices"] == len(headers)
        assert row["slice_spacing_mm"] == pytest.approx(np.diff(heights).mean(), abs=1e-6)
        assert row["missing_slices"] == 0
        for header in headers:
            assert row["slice_thickness_mm"] == float(header.SliceThickness)
            assert row["pixel_spacing_mm"] == float(header.PixelSpacing[0])
            assert row["field_of_view_mm"] == pytest.approx(float(header.ReconstructionDiameter), abs=0.01)
            assert (row["manufacturer"], row["model"]) == (header.Manufacturer, header.ManufacturerModelName)
            assert (row["kernel"], row["tube_kv"]) == (header.ConvolutionKernel, float(header.KVP))
            assert row["tube_mas"] == float(header.XRayTubeCurrent) * float(header.ExposureTime) / 1000
            assert (row["contrast"] == "given") == bool(header.get("ContrastBolusAgent"))
            assert row["position"] == header.PatientPosition
        assert (row["axes"], row["plane"], row["tilt_deg"]) == ("LPS", "axial", 0.0)


def test_the_sampled_histogram_is_that_of_all_voxels(lidc):
    for uid, (folder, row) in lidc.items():
        hounsfield = DicomReader(folder, uid).read().hounsfield
        values = hounsfield[hounsfield != -2048].astype(np.int32)
        lower, upper = HISTOGRAM_HU
        counts, _ = np.histogram(np.clip(values, lower, upper - 1), bins=(upper - lower) // BIN_HU, range=HISTOGRAM_HU)
        shares, found = counts / counts.sum(), np.asarray(row["histogram"]) / sum(row["histogram"])
        # Total variation: half of the summed differences.
        assert np.abs(shares - found).sum() / 2 < 0.01
        assert row["padding_share"] == pytest.approx((hounsfield == -2048).mean(), abs=1e-3)
        assert row["median_hu"] == pytest.approx(np.median(values), abs=5)
        assert row["lowest_hu"] == hounsfield.min()


def test_peaks_padding_and_noise_are_plausible_and_no_limit_is_broken(lidc):
    for uid, (_, row) in lidc.items():
        assert row["padding_hu"] == -2048
        # The circle in a square leaves 1 - pi/4 outside.
        assert row["padding_share"] == pytest.approx(1 - np.pi / 4, abs=0.003)
        assert row["air_peak_hu"] == pytest.approx(-1000, abs=25)
        assert 30 <= row["tissue_peak_hu"] <= 80
        assert 10 <= row["noise_hu"] <= 30, uid
        assert row["is_hounsfield"]
        if uid.endswith(LIDC_1):
            assert row["clipped_share"] > 0.02


def test_another_scan_has_thick_slices_and_a_sharp_kernel(real_data: Path, tmp_path: Path):
    with tarfile.open(real_data / "chest_dicom/C3N-00247.tar.xz") as archive:
        archive.extractall(tmp_path / "data", filter="data")
    catalogue, scans = described(tmp_path / "data", tmp_path)
    (row,) = scans.to_dict("records")
    header = headers_of(tmp_path / "data" / catalogue["path"][0])[0]
    assert (row["kernel"], row["tube_kv"]) == ("B70f", 100.0) == (header.ConvolutionKernel, float(header.KVP))
    assert row["slice_thickness_mm"] == 3.0
    assert row["contrast"] is None
    assert 50 < row["noise_hu"] < 100
    assert find_broken(scans)["limit"].tolist() == ["slice_thickness"]
