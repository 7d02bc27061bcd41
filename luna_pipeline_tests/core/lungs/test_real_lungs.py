"""Lungs of real scans: annotated nodules inside, airways, gas and table outside, a reference label map."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline.core.lungs.mask import NoLungsError, find_lungs

pytestmark = pytest.mark.real

SCAN_0001 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
SCAN_0003 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.170706757615202213033480003264"
# Voxels (index, row, col): annotated nodules; trachea, gas of stomach and bowel, beside the body, seen by hand.
NODULES = {
    SCAN_0001: [(90, 367, 316)],
    SCAN_0003: [(75, 350, 367), (83, 198, 308), (84, 219, 221)],
}
OUTSIDE = {
    SCAN_0001: [(114, 232, 235), (15, 133, 304), (0, 121, 202), (39, 166, 400), (60, 20, 256), (60, 500, 256)],
    SCAN_0003: [(126, 262, 265), (0, 130, 289), (0, 154, 358), (70, 20, 256), (70, 490, 256)],
}


# First and last slice, and whether there are lungs in between: chest, abdomen, neck with the trachea.
PARTS = {
    SCAN_0001: [(60, 80, True), (0, 19, False), (126, 133, False)],
    SCAN_0003: [(70, 90, True), (0, 8, False), (118, 140, False)],
}


@pytest.fixture(scope="module", params=[SCAN_0001, SCAN_0003], ids=["0001", "0003"])
def found(request, lidc_root):
    catalogue = catalogue_series(lidc_root, patient_key=b"key").set_index("series_instance_uid")
    uid = request.param
    ct = read_ct(lidc_root / catalogue.loc[uid, "path"], series_instance_uid=uid)
    return uid, ct, find_lungs(ct.hounsfield, ct.grid)


def test_annotated_nodules_are_inside_also_at_the_pleura(found):
    uid, _, lungs = found
    for index, row, col in NODULES[uid]:
        assert lungs.mask[index - 1 : index + 2, row - 2 : row + 3, col - 2 : col + 3].all()


def test_trachea_gas_of_the_bowel_and_the_air_beside_the_body_are_outside(found):
    uid, ct, lungs = found
    for voxel in OUTSIDE[uid]:
        assert ct.hounsfield[voxel] < -900
        assert not lungs.mask[voxel]
    assert not lungs.searched(5.0).mask[OUTSIDE[uid][-1]]


def test_the_volume_is_that_of_an_adult(found):
    _, ct, lungs = found
    assert 3000 < lungs.volume_ml < 6500
    assert lungs.notes == ()
    assert np.median(ct.hounsfield[lungs.mask]) == pytest.approx(-860, abs=40)


def test_twenty_slices_of_a_chest_are_enough_and_abdomen_and_neck_are_refused(found):
    uid, ct, lungs = found
    for start, stop, has_lungs in PARTS[uid]:
        part = ct.hounsfield[start:stop]
        grid = replace(ct.grid, size_irc=part.shape)
        if has_lungs:
            mask, expected = find_lungs(part, grid).mask, lungs.mask[start:stop]
            assert 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) > 0.98
        else:
            with pytest.raises(NoLungsError, match=r"got \d+\.\d ml that could be lung, .* HU and its centre at"):
                find_lungs(part, grid)


def test_noise_of_a_low_dose_and_emphysema_change_little(found):
    _, ct, lungs = found
    part, expected = ct.hounsfield[60:90], lungs.mask[60:90]
    noise = np.random.default_rng(0).standard_normal(part.shape, dtype=np.float32) * 120
    darker = np.where((part < -700) & (part > -980), np.maximum(part - 70, -1000), part)
    noisy = np.clip(darker + noise, -1024, 3071).astype(np.int16)
    mask = find_lungs(noisy, replace(ct.grid, size_irc=part.shape)).mask
    assert 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) > 0.98


def test_the_whole_lung_of_a_reference_is_met(real_data):
    folder = real_data / "fixtures" / "cip-ct64"
    # Region 9 to 14 in the low byte is lung, with its vessels (3 in the high byte) and without airways outside.
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "lm-64.nrrd")))
    reference = (labels & 255 >= 9) & (labels & 255 <= 14)
    ct = read_ct(folder / "ct-64.nrrd", series_instance_uid="cip")
    mask = find_lungs(ct.hounsfield, ct.grid).mask
    assert np.array_equal(reference, sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "wholeLung-64.nrrd"))) > 0)
    assert 2 * (mask & reference).sum() / (mask.sum() + reference.sum()) >= 0.97
    # Above the carina; voxels of 4 mm do not separate the bronchi from the lungs.
    trachea = (labels == 512)[54:]
    assert (mask[54:] & trachea).sum() <= 0.1 * trachea.sum()
