"""Real scans and their copies, blocks of them, and real cutouts of other scans."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline.launchers.same_scans import find_same_scans_below
from luna_pipeline.settings import Settings

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_copies_of_real_scans_are_found_and_no_other_pair(lidc_root: Path, real_data: Path, tmp_path: Path):
    catalogue = catalogue_series(lidc_root, patient_key=b"key")
    uid, path = catalogue.loc[0, ["series_instance_uid", "path"]]
    hounsfield = read_ct(lidc_root / path, series_instance_uid=uid).hounsfield
    copies = tmp_path / "copies"
    copies.mkdir()
    # The left half from feet to head, without its header; a nodule block of LUNA25's size; a cutout of the tutorial's.
    half = sitk.GetImageFromArray(np.ascontiguousarray(hounsfield[::-1, :, 256:]))
    sitk.WriteImage(half, str(copies / "half.mha"))
    np.save(copies / "block.npy", hounsfield[30:94, 200:328, 250:378])
    cutout = np.clip(hounsfield[60:92, 260:308, 280:328], -1000, 1000).astype(np.float32)
    np.savez(copies / "cutout.npz", ct_chunk=cutout)
    settings = Settings.from_environment({"LUNA_HOME": str(tmp_path / "home")})
    result = find_same_scans_below(settings, [lidc_root, copies, real_data / "cutouts", real_data / "fixtures"])
    found = {
        frozenset((row["series_a"], row["series_b"])): (row["kind"], row["share_equal"])
        for row in result.table.to_dict("records")
    }
    # `ct-64` is there as NRRD and as DICOM.
    of_fixture = {names for names in found if "ct-64" in names}
    assert {found[names] for names in of_fixture} == {("equal", 1.0)}
    expected = {frozenset((name, uid)): ("block of", 1.0) for name in ("half", "block", "cutout")}
    expected |= {
        frozenset(("block", "half")): found[frozenset(("block", "half"))],
        frozenset(("cutout", "half")): ("block of", 1.0),
        frozenset(("cutout", "block")): ("block of", 1.0),
    }
    assert {names: kind for names, kind in found.items() if names not in of_fixture} == expected
