import io
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID as PydicomUid

from luna_pipeline.core.diagnosis.dicom_nodules import reported_nodules
from luna_pipeline.core.diagnosis.dicom_output import dicom_output
from luna_pipeline.core.diagnosis.dicom_seg import segmentation_dataset
from luna_pipeline.core.diagnosis.dicom_source import DicomOutputError, clean_sources, plane_positions, read_sources
from luna_pipeline.core.diagnosis.dicom_sr import report_dataset
from luna_pipeline.core.diagnosis.dicom_uids import derived_uid, tracking_uid
from luna_pipeline_tests.core.diagnosis.dicom_examples import UID, ball, case_of, many_balls, multi_frame_series, series
from luna_pipeline_tests.core.diagnosis.examples import model
from luna_pipeline_tests.phantoms import edit_dicom

PATIENT = {"PatientName": "Yamada^Tarou=山田^太郎", "SpecificCharacterSet": "ISO_IR 192", "PatientSex": "F"}
STUDY = {"StudyDate": "20200131", "StudyTime": "0930", "StudyID": "7", "AccessionNumber": "A1"}


@pytest.fixture
def case(tmp_path):
    reader = series(tmp_path / "ct", tags=PATIENT | STUDY)
    return case_of(reader, ball(reader.grid()))


def objects_of(case, **changes):
    made = dicom_output(replace(case.diagnosis, **changes), case.files)
    return {name: pydicom.dcmread(io.BytesIO(content)) for name, content in made.files.items()}


def all_text(dataset):
    return "\n".join(str(element.value) for element in dataset.iterall() if element.VR != "SQ")


def test_both_objects_belong_to_the_patient_and_study(case):
    for dataset in objects_of(case).values():
        assert str(dataset.PatientName) == PATIENT["PatientName"]
        assert (dataset.PatientID, dataset.PatientSex, dataset.StudyID) == ("phantom", "F", "7")
        assert (dataset.StudyInstanceUID, dataset.AccessionNumber) == (f"{UID}.0", "A1")
        assert (dataset.ContentDate, dataset.ContentTime) == ("20200131", "0930")
        assert dataset.SeriesInstanceUID != UID
        assert PydicomUid(dataset.SOPInstanceUID).is_valid
        assert "research use only" in dataset.SeriesDescription


@pytest.mark.parametrize("name", ["seg.dcm", "sr.dcm"])
def test_both_state_models_recipe_input_and_runs(case, name):
    text = all_text(objects_of(case)[name])
    for stated in ("nodule_segmenter", "nodule_classifier", "malignancy_classifier", "default", "ab" * 32, "12" * 32):
        assert stated in text
    assert "f00d" * 8 in text
    assert "run-1" in text


@pytest.mark.parametrize("name", ["seg.dcm", "sr.dcm"])
def test_a_model_that_has_seen_the_series_or_has_an_unknown_origin_is_said_to(case, name):
    segmenter = model("segmenter", has_seen_series=True)
    others = case.diagnosis.models[1:]
    text = all_text(objects_of(case, models=(segmenter, *others))[name])
    assert "has_seen_series=yes" in text
    assert "has_unknown_origin" not in text


def test_segment_and_measurements_share_their_tracking_uid(case):
    made = objects_of(case)
    (segment,) = made["seg.dcm"].SegmentSequence
    assert segment.TrackingUID == tracking_uid(case.diagnosis, case.diagnosis.nodules[0])
    assert segment.TrackingUID in all_text(made["sr.dcm"])
    assert segment.SegmentLabel == "Nodule 1, p 0.750, 7.2 mm"
    assert segment.SegmentDescription.endswith(
        "malignancy 0.250, diameter 7.2 mm, volume 199.5 mm3. Research use only. Not a medical device."
    )
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.AnatomicRegionSequence[0].CodeValue == "39607008"


def test_highdicom_reads_the_measurements_back(case):
    made = dicom_output(case.diagnosis, case.files)
    report = hd.sr.srread(io.BytesIO(made.files["sr.dcm"])).content
    (group,) = report.get_volumetric_roi_measurement_groups()
    values = {item.name.meaning: (item.value, item.unit.value) for item in group.get_measurements()}
    assert values == {
        "Diameter": (7.25, "mm"),
        "Long axis": (8.5, "mm"),
        "Volume": (199.5, "mm3"),
        "Certainty of Finding": (75.0, "%"),
        "Probability of cancer": (25.0, "%"),
    }


def test_a_rerun_gives_equal_bytes_and_a_change_another_uid(case):
    made = dicom_output(case.diagnosis, case.files)
    assert dicom_output(case.diagnosis, case.files) == made
    changed = {
        "input_fingerprint": "34" * 32,
        "nodules": (replace(case.diagnosis.nodules[0], probability=0.7501),),
        "models": (model("segmenter", weights_sha256="cd" * 32), *case.diagnosis.models[1:]),
        "run_ids": {"dagster": "run-2"},
        "recipe": case.diagnosis.recipe.with_changes(merge_mm=3.0),
    }
    uids = {"": {str(dataset.SOPInstanceUID) for dataset in objects_of(case).values()}}
    for name, value in changed.items():
        uids[name] = {str(dataset.SOPInstanceUID) for dataset in objects_of(case, **{name: value}).values()}
    assert len(set.union(*uids.values())) == 2 * len(uids)


def test_a_rerun_in_another_run_tracks_the_same_nodule(case):
    again = replace(case.diagnosis, run_ids={}, seconds={})
    nodule = case.diagnosis.nodules[0]
    assert tracking_uid(again, nodule) == tracking_uid(case.diagnosis, nodule)
    assert tracking_uid(again, replace(nodule, mask=~nodule.mask)) != tracking_uid(again, nodule)


def test_without_a_nodule_above_the_threshold_there_is_a_report_that_says_so(case):
    nodule = replace(case.diagnosis.nodules[0], probability=0.49)
    made = objects_of(case, nodules=(nodule,))
    assert list(made) == ["sr.dcm"]
    text = all_text(made["sr.dcm"])
    assert "\nAbsent\n" in text
    assert "Reported: 0 of 1 findings, the most probable ones at or above the threshold of 0.5." in text


def test_the_threshold_itself_and_the_most_probable_count(tmp_path):
    reader = series(tmp_path, size_irc=(12, 40, 40))
    nodules = many_balls(reader.grid(), 60)
    case = case_of(reader, *nodules)
    assert len(reported_nodules(case.diagnosis)) == 50
    sources = read_sources(case.files)
    seg = segmentation_dataset(case.diagnosis, sources, max_nodules=3)
    assert seg is not None
    assert [item.SegmentLabel[:17] for item in seg.SegmentSequence] == [
        f"Nodule {n}, p 0.{100 - n}0" for n in (1, 2, 3)
    ]
    report = report_dataset(case.diagnosis, seg, sources)
    assert "Reported: 3 of 60" in all_text(report)


def test_nodules_beyond_the_limit_are_noted(case):
    twice = replace(case.diagnosis, nodules=case.diagnosis.nodules * 2)
    (note,) = dicom_output(twice, case.files, max_nodules=1).notes
    assert note == "seg.dcm and sr.dcm leave out 1 less probable nodules above the threshold."


def test_a_synthetic_ct_is_called_synthetic(case):
    made = objects_of(case, is_synthetic=True)
    assert made["seg.dcm"].ContentDescription.startswith("Synthetic CT. Research use only")
    assert "Synthetic CT. Research use only" in all_text(made["sr.dcm"])


def test_attributes_that_the_ct_lacks_are_empty(tmp_path):
    reader = series(tmp_path)
    for dataset in objects_of(case_of(reader, ball(reader.grid()))).values():
        for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "AccessionNumber"):
            assert keyword in dataset
            assert not dataset[keyword].value
        assert dataset.ContentDate == "19000101"


INVALID = {
    "PatientSex": b"W",
    "PatientBirthDate": b"1950",
    "StudyTime": b"25:61",
    "PatientAge": b"55",
    "PatientWeight": b"heavy",
    "AccessionNumber": b"1\\2",
    "PatientIdentityRemoved": b"MAYBE",
    "LossyImageCompression": b"",
    "ClinicalTrialSponsorName": b"without the rest",
}


def test_invalid_and_private_values_are_not_copied(case):
    for path in case.files:
        dataset = pydicom.dcmread(path)
        for keyword, value in {**INVALID, "PatientComments": b"kept"}.items():
            tag = pydicom.tag.Tag(keyword)
            vr = pydicom.datadict.dictionary_VR(tag)
            dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
        dataset.private_block(0x0011, "SECRET", create=True).add_new(1, "LO", "private words")
        dataset.save_as(path)
    for dataset in objects_of(case).values():
        assert "private words" not in all_text(dataset)
        assert [dataset.get(keyword) or "" for keyword in INVALID if keyword != "LossyImageCompression"] == [""] * 8
        assert dataset.PatientComments == "kept"
        assert dataset.ContentTime == "000000"


def test_a_removed_identity_and_a_trial_are_completed(case):
    trial = {"SponsorName": "Sponsor", "ProtocolID": "P", "SubjectID": "S"}
    edit_all(case, PatientIdentityRemoved="YES", **{f"ClinicalTrial{name}": value for name, value in trial.items()})
    for dataset in objects_of(case).values():
        assert dataset.DeidentificationMethod == "not stated by the source"
        assert (dataset.ClinicalTrialSubjectID, dataset.ClinicalTrialTimePointID) == ("S", "")


def test_a_missing_frame_of_reference_is_derived_from_the_series(case):
    seg = objects_of(case)["seg.dcm"]
    assert seg.FrameOfReferenceUID == derived_uid("frame of reference", UID)
    edit_all(case, FrameOfReferenceUID="1.2.9")
    assert objects_of(case)["seg.dcm"].FrameOfReferenceUID == "1.2.9"


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"StudyInstanceUID": ""}, "StudyInstanceUID must be a UID in each image, got 'none'"),
        ({"SOPClassUID": "1.2.3.4"}, "SOPClassUID must be that of a CT image, got 1.2.3.4"),
        ({"SOPInstanceUID": "1.2.3.4"}, "Images of a series must have different SOPInstanceUIDs, got one twice"),
    ],
)
def test_a_series_that_cannot_be_referenced_gives_a_note(case, tags, words):
    edit_all(case, **tags)
    made = dicom_output(case.diagnosis, case.files)
    assert made.files == {}
    (note,) = made.notes
    assert note.startswith(f"No seg.dcm and sr.dcm: {words}")
    assert note.endswith("--no-dicom.")


def test_images_in_two_frames_of_reference_give_a_note(case):
    edit_all(case, FrameOfReferenceUID="1.2.9")
    edit_dicom(case.files[3], FrameOfReferenceUID="")
    assert objects_of(case)["seg.dcm"].FrameOfReferenceUID == "1.2.9"
    edit_dicom(case.files[3], FrameOfReferenceUID="1.2.10")
    (note,) = dicom_output(case.diagnosis, case.files).notes
    assert "The images must share a frame of reference, got 2 of them (series 1.2.3)." in note


def test_a_number_of_frames_of_one_makes_no_multi_frame_image(case):
    before = objects_of(case)["seg.dcm"]
    edit_all(case, NumberOfFrames=1)
    assert objects_of(case)["seg.dcm"] == before


def test_what_highdicom_refuses_gives_a_note(case, monkeypatch):
    def refuse(*_, **__):
        raise AttributeError("Doe^John")

    monkeypatch.setattr("luna_pipeline.core.diagnosis.dicom_seg.Segmentation", refuse)
    (note,) = dicom_output(case.diagnosis, case.files).notes
    assert "got AttributeError (series 1.2.3). See the error with --debug, or leave DICOM out with --no-dicom." in note


@pytest.mark.parametrize("name", ["SecretName", "Secret^Name^^^^^", "Secret=Name=Secret=Name"])
def test_the_name_of_the_patient_stands_in_the_objects_alone(case, name, recwarn, caplog, capfd):
    for path in case.files:
        dataset = pydicom.dcmread(path)
        tag = pydicom.tag.Tag("PatientName")
        dataset[tag] = RawDataElement(tag, "PN", len(name), name.encode(), 0, False, True)
        dataset.save_as(path)
    assert dicom_output(case.diagnosis, case.files).notes == ()
    assert not [warning for warning in recwarn if "Secret" in str(warning.message)]
    assert "Secret" not in caplog.text + "".join(capfd.readouterr())


def test_images_of_another_ct_are_refused(case, tmp_path):
    other = series(tmp_path / "other", origin_xyz=(0.0, 0.0, 0.0))
    sources = read_sources(other.files_in_slice_order())
    with pytest.raises(DicomOutputError, match="must lie where the CT does"):
        plane_positions(sources, case.diagnosis.grid)
    with pytest.raises(DicomOutputError, match=r"must be the CT's \(12, 24, 20\), got 11 of 24 x 20"):
        plane_positions(sources[1:], case.diagnosis.grid)
    with pytest.raises(DicomOutputError, match="got none"):
        clean_sources([])


def test_the_frames_of_a_multi_frame_image_are_placed_by_their_positions(tmp_path):
    reader = multi_frame_series(tmp_path)
    case = case_of(reader, ball(reader.grid()))
    np.testing.assert_allclose(
        plane_positions(read_sources(case.files), reader.grid())[:, 2], -300.0 + 2.5 * np.arange(12), atol=1e-6
    )
    frame = objects_of(case)["seg.dcm"].PerFrameFunctionalGroupsSequence[0]
    number = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
    source = pydicom.dcmread(case.files[0]).PerFrameFunctionalGroupsSequence[number - 1]
    assert source.PlanePositionSequence == frame.PlanePositionSequence


def test_the_distance_of_slices_is_the_grids_not_the_slice_thickness(tmp_path):
    reader = series(tmp_path, tags={"SpacingBetweenSlices": "9"})
    # Frames without a nodule between them: from positions alone, readers could not tell the distance.
    case = case_of(reader, ball(reader.grid(), (2, 12, 10)), ball(reader.grid(), (9, 12, 10)))
    measures = objects_of(case)["seg.dcm"].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert pydicom.dcmread(case.files[0]).SliceThickness == 5.0
    assert (measures.SpacingBetweenSlices, measures.SliceThickness, measures.PixelSpacing) == (2.5, 2.5, [0.8, 0.7])


@pytest.mark.parametrize("keyword", ["SliceThickness", "Manufacturer", "InstanceNumber"])
def test_attributes_without_which_a_ct_can_be_read_are_not_needed(case, keyword):
    for path in case.files:
        dataset = pydicom.dcmread(path)
        dataset.pop(keyword, None)
        dataset.save_as(path)
    assert list(objects_of(case)) == ["seg.dcm", "sr.dcm"]


def test_a_multi_frame_image_may_have_its_measures_in_each_frame(tmp_path):
    reader = multi_frame_series(tmp_path)
    case = case_of(reader, ball(reader.grid()))
    first = objects_of(case)["seg.dcm"]
    dataset = pydicom.dcmread(case.files[0])
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.PixelMeasuresSequence, frame.PlaneOrientationSequence = (
            shared.PixelMeasuresSequence,
            shared.PlaneOrientationSequence,
        )
    del shared.PixelMeasuresSequence, shared.PlaneOrientationSequence
    dataset.save_as(case.files[0])
    assert objects_of(case)["seg.dcm"] == first


def edit_all(case, **tags):
    for path in case.files:
        edit_dicom(path, **tags)
