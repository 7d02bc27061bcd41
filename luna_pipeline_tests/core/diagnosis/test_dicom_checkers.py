"""DICOM objects as the validators and readers of other projects see them: dicom3tools, dcmqi, DCMTK, ITK, highdicom."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.formats.dicom_series import DicomReader
from luna_pipeline.core.diagnosis.dicom_output import dicom_output
from luna_pipeline.core.diagnosis.dicom_seg import segmentation_dataset
from luna_pipeline.core.diagnosis.dicom_source import read_sources
from luna_pipeline.core.diagnosis.result import Nodule
from luna_pipeline.core.phantom.dicom import write_dicom
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline_tests.core.diagnosis.dicom_examples import (
    DIRECTIONS,
    DicomCase,
    ball,
    case_of,
    many_balls,
    multi_frame_series,
    painted,
    series,
)
from luna_pipeline_tests.phantoms import grid_of

CASES = ("none", "one", "forty", *DIRECTIONS, "border", "shared voxels", "multi-frame", "phantom")


def tool(name: str) -> str:
    """Path of a checker: of the environment that runs the tests, or the system's."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return found or pytest.skip(f"{name} is not installed")


def run(*command, may_fail=False) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=False)
    assert may_fail or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def make_case(name: str, folder: Path) -> DicomCase:
    if name == "phantom":
        phantom = make_series(PhantomConfig(3, 0, (32, 32, 32)))
        write_dicom(folder, phantom)
        reader = DicomReader(folder, phantom.config.series_instance_uid)
        return case_of(reader, *many_balls(reader.grid(), 3), is_synthetic=True)
    if name == "multi-frame":
        reader = multi_frame_series(folder)
    else:
        reader = series(folder, size_irc=(12, 40, 40) if name == "forty" else (12, 24, 20), **_options(name))
    grid = reader.grid()
    nodules = {
        "none": [ball(grid, probability=0.2)],
        "one": [ball(grid, malignancy=None)],
        "forty": many_balls(grid, 40),
        "border": [ball(grid, (2, 2, 2)), ball(grid, (9, 2, 10)), ball(grid, (9, 21, 17), probability=0.6)],
        "shared voxels": [ball(grid, (6, 12, 10)), ball(grid, (7, 13, 10), probability=0.6)],
    }.get(name, [ball(grid, (4, 12, 10)), ball(grid, (7, 8, 12), probability=0.5)])
    return case_of(reader, *nodules)


def _options(name: str) -> dict:
    return {"direction": DIRECTIONS[name]} if name in DIRECTIONS else {}


@dataclass(frozen=True)
class Checked:
    """The objects of a case as files."""

    case: DicomCase
    folder: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        made = dicom_output(self.case.diagnosis, self.case.files)
        assert made.notes == ()
        for name, content in made.files.items():
            (self.folder / name).write_bytes(content)
        return {name: self.folder / name for name in made.files}

    @property
    def nodules(self) -> list[Nodule]:
        diagnosis = self.case.diagnosis
        return [nodule for nodule in diagnosis.nodules if nodule.probability >= diagnosis.threshold]

    @cached_property
    def seg(self) -> Path:
        return self.files.get("seg.dcm") or pytest.skip("there is no nodule to segment")


@pytest.fixture(scope="module", params=[*CASES, pytest.param("real", marks=pytest.mark.real)])
def checked(request, tmp_path_factory) -> Checked:
    folder = tmp_path_factory.mktemp("case")
    if request.param != "real":
        return Checked(make_case(request.param, folder / "ct"), folder)
    path = next((request.getfixturevalue("lidc_root") / "LIDC-IDRI-0001").rglob("*.dcm")).parent
    reader = DicomReader(
        path, str(pydicom.dcmread(next(path.glob("*.dcm")), stop_before_pixels=True).SeriesInstanceUID)
    )
    grid = reader.grid()
    nodules = [ball(grid, (90, 367, 316), 9), ball(grid, (5, 300, 200), 3, probability=0.6, malignancy=None)]
    return Checked(case_of(reader, *nodules), folder)


def test_dciodvfy_finds_no_error(checked):
    for path in checked.files.values():
        findings = run(tool("dciodvfy"), path)
        assert "Error" not in findings, findings
        # Of attributes that the CT does not have, or has in an old form.
        known = ("needed to build DICOMDIR", "Retired Person Name form")
        warnings = [line for line in findings.splitlines() if line.startswith("Warning")]
        assert [line for line in warnings if not any(words in line for words in known)] == []


def test_dcentvfy_finds_one_patient_study_and_frame_of_reference(checked):
    findings = run(tool("dcentvfy"), *checked.case.files, *checked.files.values(), may_fail=True)
    errors = [line for line in findings.splitlines() if line.startswith("Error")]
    # The real CT itself refers to objects that are not here.
    assert [line for line in errors if "Missing SOPInstanceUID that was referenced" not in line] == []


def test_dsrdump_prints_each_nodule(checked):
    printed = run(tool("dsrdump"), checked.files["sr.dcm"])
    assert printed.count('"Measurement Group"') == max(len(checked.nodules), 1)
    assert ("Absent" in printed) == (not checked.nodules)
    assert "Research use only" in printed or "Synthetic CT." in printed


def test_dcmqi_gives_back_the_very_voxels(checked):
    out = checked.folder / "dcmqi"
    out.mkdir()
    run(tool("segimage2itkimage"), "--inputDICOM", checked.seg, "--outputDirectory", out)
    described = json.loads((out / "meta.json").read_text())["segmentAttributes"]
    assert sorted(item[0]["labelID"] for item in described) == [*range(1, len(checked.nodules) + 1)]
    for number, items in enumerate(described, start=1):
        nodule = checked.nodules[items[0]["labelID"] - 1]
        voxels = on_grid(sitk.ReadImage(str(out / f"{number}.nrrd")), checked.case.diagnosis.grid)
        np.testing.assert_array_equal(voxels, painted(nodule, checked.case.diagnosis.grid))


def test_dcmqi_reads_each_measurement(checked):
    path = checked.folder / "sr.json"
    run(tool("tid1500reader"), "--inputDICOM", checked.files["sr.dcm"], "--outputMetadata", path)
    groups = json.loads(path.read_text())["Measurements"]
    if not checked.nodules:
        (group,) = groups
        assert group["TrackingIdentifier"] == "No nodule"
        return
    seg = pydicom.dcmread(checked.seg, stop_before_pixels=True)
    assert len(groups) == len(checked.nodules)
    for number, (group, nodule) in enumerate(zip(groups, checked.nodules, strict=True), start=1):
        assert group["ReferencedSegment"] == number
        assert group["segmentationSOPInstanceUID"] == seg.SOPInstanceUID
        assert group["TrackingUniqueIdentifier"] == seg.SegmentSequence[number - 1].TrackingUID
        assert group["SourceSeriesForImageSegmentation"] == checked.case.diagnosis.series_instance_uid
        found = {item["quantity"]["CodeValue"]: item for item in group["measurementItems"]}
        wanted = {
            "81827009": (nodule.diameter_mm, "mm"),
            "103339001": (nodule.long_axis_mm, "mm"),
            "118565006": (nodule.volume_mm3, "mm3"),
            "111012": (100 * nodule.probability, "%"),
        }
        if nodule.malignancy is not None:
            wanted["111047"] = (100 * nodule.malignancy, "%")
        assert found.keys() == wanted.keys()
        for code, (value, unit) in wanted.items():
            assert float(found[code]["value"]) == pytest.approx(value, abs=1e-3)
            assert found[code]["units"]["CodeValue"] == unit


def test_simpleitk_reads_each_frame_at_its_place(checked):
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(checked.seg)))
    header = pydicom.dcmread(checked.seg, stop_before_pixels=True)
    grid = checked.case.diagnosis.grid
    found = np.zeros((len(checked.nodules), *grid.size_irc), dtype=bool)
    shared = header.SharedFunctionalGroupsSequence[0]
    for frame, item in zip(frames, header.PerFrameFunctionalGroupsSequence, strict=True):
        group = item if "SegmentIdentificationSequence" in item else shared
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        place = grid.world_to_voxel([float(value) for value in item.PlanePositionSequence[0].ImagePositionPatient])
        np.testing.assert_allclose(place, np.rint(place), atol=1e-3)
        found[number - 1, round(place[0])] = frame > 0
    for voxels, nodule in zip(found, checked.nodules, strict=True):
        np.testing.assert_array_equal(voxels, painted(nodule, grid))


def test_simpleitk_reads_a_segment_with_all_frames_on_the_grid_of_the_ct(checked):
    grid = checked.case.diagnosis.grid
    dataset = segmentation_dataset(
        checked.case.diagnosis, read_sources(checked.case.files), max_nodules=1, omits_empty_frames=False
    )
    if dataset is None or grid.size_irc[0] > 100:
        pytest.skip("no nodule, or every frame of a large CT")
    path = checked.folder / "one.dcm"
    dataset.save_as(path)
    image = sitk.ReadImage(str(path))
    assert sorted(image.GetSize()) == sorted(grid.size_irc)
    np.testing.assert_array_equal(on_grid(image, grid), painted(checked.nodules[0], grid))


def on_grid(image: sitk.Image, grid):
    """The voxels of a mask on a CT's grid, each by its own world position."""
    voxels = np.zeros(grid.size_irc, dtype=bool)
    found = np.argwhere(sitk.GetArrayFromImage(image) > 0)
    places = grid.world_to_voxel(grid_of(image).voxel_to_world(found))
    np.testing.assert_allclose(places, np.rint(places), atol=2e-3)
    voxels[tuple(np.rint(places).astype(int).T)] = True
    return voxels
