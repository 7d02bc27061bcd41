"""Cutting two whole LIDC-IDRI scans around LUNA16's annotations and a published detector's candidates."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.service import CtCutoutService
from luna_pipeline.core.cutouts.sheet import cutout_sheet
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline_tests.core.cutouts.test_cutting import extracted_by_itk, padded_by_itk

pytestmark = pytest.mark.real
SCAN_1 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
SCAN_3 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.170706757615202213033480003264"
# Annotated nodules, seen by eye to be in the middle: diameter in mm -> mean HU of the middle 3 x 3 x 3 voxels.
MEAN_HU = {SCAN_1: {23.35: 86}, SCAN_3: {21.45: 17, 8.79: -222, 12.82: -1}}


@pytest.fixture(scope="module")
def made(lidc_root, tmp_path_factory):
    """Catalogue, candidates and the store with all cutouts of both scans."""
    catalogue = catalogue_series(lidc_root, patient_key=b"key")
    candidates = build_candidates(lidc_root, catalogue).candidates
    store = CutoutStore(tmp_path_factory.mktemp("home") / "cutouts")
    service = CtCutoutService(
        data_root=lidc_root,
        catalogue=catalogue,
        candidates=candidates,
        store=store,
        parameters=CuttingParameters(),
    )
    assert service.cut_many().cut == [SCAN_3, SCAN_1]
    return catalogue, candidates, store


def nodules_of(candidates: pd.DataFrame) -> pd.DataFrame:
    return candidates[candidates["source"] == "annotation"].sort_values(["series_instance_uid", "diameter_mm"])


def chunk_of(store: CutoutStore, nodule) -> np.ndarray:
    cutouts = store.read(nodule.series_instance_uid)
    return cutouts.ct_chunks[cutouts.candidate_id == nodule.candidate_id][0]


def test_every_cutout_is_what_simpleitk_extracts_from_the_dicom_series(made, lidc_root):
    catalogue, candidates, store = made
    for uid, path in zip(catalogue["series_instance_uid"], catalogue["path"], strict=True):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(lidc_root / path), uid))
        padded = padded_by_itk(reader.Execute(), CuttingParameters())
        cutouts = store.read(uid)
        assert len(cutouts.candidate_id) == (candidates["series_instance_uid"] == uid).sum()
        for chunk, point_xyz in zip(cutouts.ct_chunks, cutouts.center_xyz, strict=True):
            np.testing.assert_array_equal(chunk, extracted_by_itk(padded, point_xyz, CuttingParameters()))


@pytest.mark.seed_defect(21, 22)
def test_the_four_annotated_nodules_are_in_the_middle(made):
    _, candidates, store = made
    found: dict[str, dict[float, float]] = {}
    for nodule in nodules_of(candidates).itertuples():
        middle_hu = chunk_of(store, nodule)[15:18, 23:26, 23:26].mean()
        found.setdefault(nodule.series_instance_uid, {})[round(nodule.diameter_mm, 2)] = middle_hu
    assert {uid: sorted(row) for uid, row in found.items()} == {uid: sorted(row) for uid, row in MEAN_HU.items()}
    for uid, expected in MEAN_HU.items():
        for diameter_mm, mean_hu in expected.items():
            assert found[uid][diameter_mm] == pytest.approx(mean_hu, abs=1), (uid, diameter_mm)


def test_all_chunks_lie_within_the_window_although_the_scanners_padding_does_not(made):
    _, _, store = made
    for uid in store.uids():
        chunks = store.read(uid).ct_chunks
        assert (chunks.min(), chunks.max() <= 1000) == (-1000, True)


def test_a_sheet_of_the_four_nodules_is_small(made):
    _, candidates, store = made
    nodules = list(nodules_of(candidates).itertuples())
    captions = [f"nodule {nodule.diameter_mm:.1f} mm" for nodule in nodules]
    sheet = cutout_sheet(np.stack([chunk_of(store, nodule) for nodule in nodules]), captions)
    assert len(sheet) < 100_000
    if folder := os.environ.get("LUNA_TEST_PICTURES"):
        (Path(folder) / "lidc_nodules.png").write_bytes(sheet)
