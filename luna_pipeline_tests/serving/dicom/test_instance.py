"""The header of one arriving image; most refusals are shown by an association in test_receiver.py."""

from pathlib import Path

import pytest

from luna_pipeline.serving.dicom.instance import NOT_OF_ITS_CLASS, RefusedInstanceError, digest_of, read_instance
from luna_pipeline_tests.serving.dicom.pushing import changed, images

CT = "1.2.840.10008.5.1.4.1.1.2"


def encoded(tmp_path: Path, **values) -> tuple[bytes, str]:
    """A file with changed values, and its SOPInstanceUID."""
    dataset = images(tmp_path, "1.2.3", number=1)[0]
    dataset = changed(dataset, lambda it: [setattr(it, keyword, value) for keyword, value in values.items()])
    dataset.save_as(tmp_path / "changed.dcm", enforce_file_format=True)
    return (tmp_path / "changed.dcm").read_bytes(), str(dataset.SOPInstanceUID)


def test_names_hold_digests_alone(tmp_path: Path):
    content, uid = encoded(tmp_path)
    found = read_instance(content, sop_class_uid=CT, sop_instance_uid=uid)
    assert (found.series, found.num_voxels, found.num_expected) == (digest_of("1.2.3"), 8 * 8, None)
    assert found.name == f"{digest_of('1.2.3')}-{digest_of(uid)}.dcm"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"NumberOfSeriesRelatedInstances": 12, "ImagesInAcquisition": 6}, (12, "")),
        ({"ImagesInAcquisition": 6, "AcquisitionNumber": 2}, (6, digest_of("2"))),
        ({"ImagesInAcquisition": 0}, (None, "")),
        ({"ImagesInAcquisition": -3}, (None, "")),
    ],
)
def test_the_number_of_instances_is_that_of_the_series_or_of_the_acquisition(tmp_path: Path, values, expected):
    content, uid = encoded(tmp_path, **values)
    found = read_instance(content, sop_class_uid=CT, sop_instance_uid=uid)
    assert (found.num_expected, found.acquisition) == expected


@pytest.mark.parametrize("request_uids", [{"sop_instance_uid": "1.2.9"}, {"sop_class_uid": f"{CT}.1"}])
def test_an_image_other_than_the_one_announced_is_refused(tmp_path: Path, request_uids):
    content, uid = encoded(tmp_path)
    with pytest.raises(RefusedInstanceError, match="must be those of the C-STORE request") as error:
        read_instance(content, **({"sop_class_uid": CT, "sop_instance_uid": uid} | request_uids))
    assert error.value.status == NOT_OF_ITS_CLASS
