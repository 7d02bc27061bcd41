import shutil

import numpy as np
import pydicom
import pytest

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.dicom_series import DicomReader
from luna_pipeline.core.diagnosis.dicom_output import dicom_output
from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.core.phantom.marker import MARKER
from luna_pipeline.launchers.diagnosis.input import read_input
from luna_pipeline_tests.core.ct.formats.enhanced_dicom import write_enhanced_ct
from luna_pipeline_tests.core.diagnosis.dicom_examples import ball, case_of
from luna_pipeline_tests.phantoms import edit_dicom, random_hounsfield, write_ct, write_dicom_series

UID = "1.2.3"
SUFFIXES = (".mhd", ".mha", ".nrrd", ".nhdr", ".nii", ".nii.gz")


@pytest.fixture
def folder(tmp_path):
    return write_dicom_series(tmp_path / "dicom", UID, random_hounsfield())


def reason_of(path, kind=UnreadableCtError, **options):
    with pytest.raises(kind) as caught:
        read_input(path, **options)
    reason = str(caught.value)
    assert "\n" not in reason
    assert ", got " in reason
    assert "phantom" not in reason.replace(str(path), "")
    return reason


def move(path, *, by_xyz):
    position = np.array(pydicom.dcmread(path).ImagePositionPatient, dtype=float) + by_xyz
    edit_dicom(path, ImagePositionPatient=[f"{value:.6f}" for value in position])


def test_a_dicom_folder_gives_the_ct_and_its_files_in_slice_order(folder):
    found = read_input(folder)
    np.testing.assert_array_equal(found.ct.hounsfield, random_hounsfield())
    assert (found.series_instance_uid, found.is_dicom, found.is_synthetic, found.notes) == (UID, True, False, ())
    # The phantom names its files against the order of the slices.
    assert [path.name for path in found.dicom_files] == [f"slice{number:04d}.dcm" for number in range(6, 0, -1)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_volume_file_gives_the_ct_of_its_name(tmp_path, suffix):
    found = read_input(write_ct(tmp_path, "scan", random_hounsfield(), suffix=suffix))
    np.testing.assert_array_equal(found.ct.hounsfield, random_hounsfield())
    assert (found.series_instance_uid, found.is_dicom, found.dicom_files) == ("scan", False, ())


@pytest.mark.parametrize("name", ["slice0002.dcm", "DICOMDIR"])
def test_a_file_of_a_dicom_folder_stands_for_its_series(folder, name):
    (folder / "DICOMDIR").write_bytes(b"no image")
    assert read_input(folder / name).fingerprint == read_input(folder).fingerprint


def test_one_file_names_its_series_in_a_folder_of_several(folder):
    write_dicom_series(folder, "1.2.4", random_hounsfield((4, 8, 10)), prefix="other")
    assert read_input(folder / "other0001.dcm").series_instance_uid == "1.2.4"


def test_a_multi_frame_file_is_one_file(tmp_path):
    stored = (random_hounsfield() + 1024).astype(np.uint16)
    path = write_enhanced_ct(tmp_path / "ct.dcm", UID, stored, order=(2, 0, 1, 3, 5, 4))
    found = read_input(tmp_path)
    assert found.dicom_files == (path,)
    np.testing.assert_array_equal(found.ct.hounsfield, random_hounsfield())


def test_the_fingerprint_is_that_of_the_ct_not_of_its_files(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "deeper")
    for number, path in enumerate(sorted(moved.iterdir())):
        path.rename(moved / f"IM{number}")
    fingerprint = read_input(folder).fingerprint
    assert read_input(tmp_path / "elsewhere").fingerprint == fingerprint
    assert len(fingerprint) == 64
    packed = [read_input(write_ct(tmp_path / suffix, UID, random_hounsfield(), suffix=suffix)) for suffix in SUFFIXES]
    assert len({found.fingerprint for found in packed[:4]}) == 1


def test_another_voxel_place_or_uid_is_another_fingerprint(tmp_path):
    changed = random_hounsfield()
    changed[3, 4, 5] += 1
    cts = [(UID, random_hounsfield(), 0.0), ("1.2.4", random_hounsfield(), 0.0), (UID, changed, 0.0)]
    cts.append((UID, random_hounsfield(), 0.5))
    prints = {
        read_input(write_ct(tmp_path / str(number), uid, voxels, origin_xyz=(x_mm, 0.0, 0.0))).fingerprint
        for number, (uid, voxels, x_mm) in enumerate(cts)
    }
    assert len(prints) == 4


def test_several_series_are_listed_and_one_can_be_named(folder):
    write_dicom_series(folder / "b", "1.2.4", random_hounsfield((4, 8, 10)))
    write_ct(folder / "c", "scan", random_hounsfield((7, 8, 10)), suffix=".nrrd")
    reason = reason_of(folder)
    assert "got 3 series (1.2.3: 6 slices of 8 x 10, dicom | 1.2.4: 4 slices of 8 x 10, dicom | scan: 7" in reason
    assert reason.endswith("Choose one with --series UID.")
    assert read_input(folder, series="1.2.4").ct.hounsfield.shape == (4, 8, 10)
    assert "got 1.2.5 (of 1.2.3: 6" in reason_of(folder, series="1.2.5")


def test_a_long_list_of_series_is_shortened(tmp_path):
    for number in range(12):
        write_ct(tmp_path, f"scan{number:02d}", random_hounsfield((2, 3, 4)), suffix=".mha")
    assert "scan09: 2 slices of 3 x 4, metaimage | and 2 more)" in reason_of(tmp_path)


def test_a_damaged_series_beside_a_whole_one_is_not_passed_over(folder):
    damaged = write_dicom_series(folder / "b", "1.2.4", random_hounsfield())
    (damaged / "slice0003.dcm").unlink()
    assert "1.2.4: refused: Slices must be evenly spaced" in reason_of(folder)
    assert reason_of(folder, series="1.2.4").startswith("Slices must be evenly spaced, got a gap of 5 mm")


def test_localizer_reports_and_mr_beside_the_ct_are_noted(folder):
    for uid, tags in {
        "1.2.4": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "1.2.5": {"Modality": "MR"},
        "1.2.6": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67", "Modality": "SR"},
    }.items():
        write_dicom_series(folder / uid, uid, random_hounsfield(), tags=tags)
    found = read_input(folder)
    assert found.series_instance_uid == UID
    assert [note.split(":")[0] for note in found.notes] == [f"Series 1.2.{n} is ignored" for n in (4, 5, 6)]
    assert reason_of(folder, series="1.2.5").startswith("Modality must be CT, got MR")


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Modality": "MR"}, "Modality must be CT, got MR"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "A series must hold slices of a CT, got 6 images"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2", "Modality": "RTDOSE"}, "A series must hold slices of a CT"),
        ({"RescaleSlope": "0"}, "RescaleSlope must not be 0, got 0"),
        ({"RescaleIntercept": "0"}, "Voxels must be HU with air near -1000 and tissue near 0, got"),
        ({"PixelSpacing": ["0.7"]}, "PixelSpacing must be 2 finite numbers, got '0.7 '"),
    ],
)
def test_other_images_and_wrong_headers_are_refused(tmp_path, tags, words):
    write_dicom_series(tmp_path, UID, random_hounsfield(), tags=tags)
    assert reason_of(tmp_path).startswith(words)


def test_a_folder_with_several_series_none_a_ct_names_each(tmp_path):
    for uid in ("1.2.4", "1.2.5"):
        write_dicom_series(tmp_path / uid, uid, random_hounsfield(), tags={"Modality": "MR"})
    reason = reason_of(tmp_path)
    assert reason.startswith("A folder must hold a CT, got 2 series or files that are none (series 1.2.4: Modality")


def test_dicom_objects_of_an_earlier_diagnosis_beside_the_ct_are_noted(folder):
    files = read_input(folder).dicom_files
    reader = DicomReader(folder, UID)
    made = dicom_output(case_of(reader, ball(reader.grid(), (3, 4, 5))).diagnosis, files)
    for name, content in made.files.items():
        (folder / name).write_bytes(content)
    found = read_input(folder)
    assert found.dicom_files == files
    assert sorted(note.partition("got 1 images that are none: ")[2].split(" (")[0] for note in found.notes) == [
        "seg.dcm",
        "sr.dcm",
    ]


def test_hounsfield_can_be_assumed(tmp_path):
    write_dicom_series(tmp_path, UID, random_hounsfield(), tags={"RescaleIntercept": "0"})
    assert read_input(tmp_path, assume_hu=True).ct.hounsfield.min() >= 0


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "slice0003.dcm").unlink(), "Slices must be evenly spaced, got a gap of 5 mm"),
        (lambda folder: move(folder / "slice0003.dcm", by_xyz=(0, 0, 2.5)), "Slices must lie at different places"),
        (lambda folder: move(folder / "slice0003.dcm", by_xyz=(0, 0, 0.4)), "Slices must be evenly spaced, got a gap"),
        (
            lambda folder: [move(folder / f"slice000{n}.dcm", by_xyz=(0, -0.3 * n, 0)) for n in range(1, 7)],
            "Slices must lie straight above each other, got a drift",
        ),
        (
            lambda folder: edit_dicom(
                folder / "slice0003.dcm", ImageOrientationPatient=["1", "0", "0", "0", "0", "-1"]
            ),
            "Slices of a series must share size, pixel spacing and orientation",
        ),
        (
            lambda folder: (folder / "slice0003.dcm").write_bytes((folder / "slice0003.dcm").read_bytes()[:-40]),
            "Every DICOM file must hold a readable image, got 1 that do not: slice0003.dcm",
        ),
    ],
    ids=["gap", "doubled", "uneven", "tilt", "turned", "truncated"],
)
def test_a_series_that_is_not_whole_is_refused(folder, damage, words):
    damage(folder)
    assert reason_of(folder).startswith(words)
    assert reason_of(folder / "slice0001.dcm").startswith(words)


def test_slices_of_a_series_in_two_folders_are_refused(folder):
    (folder / "b").mkdir()
    (folder / "slice0001.dcm").rename(folder / "b" / "slice0001.dcm")
    (folder / "slice0002.dcm").rename(folder / "b" / "slice0002.dcm")
    assert reason_of(folder).startswith("The slices of a series must lie in one folder, got 2")


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("gone", FileNotFoundError, "A CT must be a file (.mhd"),
        (".", FileNotFoundError, "The data folder must hold CTs"),
        ("notes.txt", UnreadableCtError, "A CT must be a file (.mhd"),
        ("scan.mhd.gz", UnreadableCtError, "A CT must not be packed as a file"),
    ],
)
def test_paths_without_a_ct_are_refused_in_one_line(tmp_path, name, kind, words):
    if "." in name[1:]:
        (tmp_path / name).write_text("no CT")
    assert reason_of(tmp_path / name, kind).startswith(words)


@pytest.mark.parametrize("name", ["my scan", "a" * 65])
def test_a_name_that_no_table_can_hold_is_refused(tmp_path, name):
    path = write_ct(tmp_path, name, random_hounsfield(), suffix=".mha")
    assert reason_of(path).startswith("A series must be named by 1 to 64 letters, digits, '.', '-', '_', got")


def test_a_header_that_shares_its_voxels_is_refused(tmp_path):
    path = write_ct(tmp_path, "one", random_hounsfield())
    shutil.copyfile(path, tmp_path / "two.mhd")
    assert reason_of(path).startswith("A voxel file must belong to one header, got 2: one.mhd, two.mhd")


def test_a_ct_that_is_replaced_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = write_ct(tmp_path, "scan", random_hounsfield(), suffix=".mha")
    from luna_pipeline.core.ct.formats.metaimage import MetaImageReader

    read = MetaImageReader.voxels

    def replaced(reader):
        voxels = np.array(read(reader))
        write_ct(tmp_path, "scan", random_hounsfield((2, 3, 4)), suffix=".mha")
        return voxels

    monkeypatch.setattr(MetaImageReader, "voxels", replaced)
    assert reason_of(path).startswith("A CT must stay as it is while it is read, got another in its place")


def test_a_phantom_is_known_by_its_marker(tmp_path):
    path = write_ct(tmp_path / "subset0", "scan", random_hounsfield())
    assert not read_input(path).is_synthetic
    (tmp_path / MARKER).write_text("{}")
    assert read_input(path).is_synthetic
    assert read_input(tmp_path).is_synthetic


@pytest.mark.parametrize("file_format", ["dicom", "metaimage"])
def test_a_copy_of_a_phantom_is_known_by_its_header(tmp_path, file_format):
    make_phantom(tmp_path / "data", num_series=1, num_subsets=1, size_irc=(32, 32, 32), seed=0, file_format=file_format)
    pattern = "*.dcm" if file_format == "dicom" else "*.mhd"
    folder = shutil.copytree(next((tmp_path / "data").rglob(pattern)).parent, tmp_path / "copy")
    assert read_input(folder).is_synthetic
