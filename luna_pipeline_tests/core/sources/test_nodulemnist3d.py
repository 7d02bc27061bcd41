"""NoduleMNIST3D goes through the same catalogue, tables, folds and cutouts as CTs do; its leaks stay unknown."""

import hashlib

import numpy as np
import pytest

from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.ct.catalogue import unreadable_series
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.service import CtCutoutService
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.datasets.volumes import CtVolumes
from luna_pipeline.core.evaluation.leaks import SeenData, leaks_of
from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.core.same_scans.scan_files import scans_of_catalogue
from luna_pipeline.core.sources import nodulemnist3d as module
from luna_pipeline.core.sources.located import locate_sources
from luna_pipeline.core.sources.luna16_form import luna16_form, write_luna16_form
from luna_pipeline.core.storage.tables import TABLES
from luna_pipeline_tests.core.mnist_examples import arrays_of, write_npz

SOURCE = module.NoduleMnist3d()
CUBE = CuttingParameters(chunk_shape_irc=(28, 28, 28))


def catalogue_of(root, data_root=None):
    return SOURCE.catalogue(root, data_root=data_root or root, patient_key=b"key")


def service_of(root, tmp_path):
    catalogue = catalogue_of(root)
    form = tmp_path / "form"
    write_luna16_form(form, luna16_form(SOURCE.tables(root, catalogue), SOURCE.folds(root, catalogue)))
    return CtCutoutService(
        data_root=root,
        catalogue=catalogue,
        candidates=build_candidates(form, catalogue).candidates,
        store=CutoutStore(tmp_path / "cutouts"),
        parameters=CUBE,
    )


def test_each_nodule_is_a_series_without_a_patient(tmp_path):
    write_npz(tmp_path / "data" / "nodulemnist3d")
    catalogue = catalogue_of(tmp_path / "data" / "nodulemnist3d", tmp_path / "data")
    TABLES["ct_series"].validate(catalogue)
    assert catalogue["series_instance_uid"].tolist() == [
        *("nodulemnist3d-test-0000", "nodulemnist3d-test-0001"),
        *("nodulemnist3d-train-0000", "nodulemnist3d-train-0001", "nodulemnist3d-train-0002"),
        "nodulemnist3d-val-0000",
    ]
    assert catalogue["is_readable"].all()
    assert catalogue["patient_hash"].isna().all()
    assert set(catalogue["path"]) == {"nodulemnist3d/nodulemnist3d.npz"}
    assert catalogue["fingerprint"].is_unique
    (note,) = set(catalogue["notes"])
    assert note.startswith("Gray values 0 to 255, not HU")
    assert list(catalogue["size_irc"].iloc[0]) == [28, 28, 28]


def test_the_candidate_is_the_middle_with_the_published_label_and_split(tmp_path):
    write_npz(tmp_path)
    catalogue = catalogue_of(tmp_path)
    tables = SOURCE.tables(tmp_path, catalogue)
    assert tables.annotations is None
    candidates = tables.candidates.set_index("series_instance_uid")
    assert (candidates[["x_mm", "y_mm", "z_mm"]] == 14.0).all(axis=None)
    assert (candidates["class"] == 1).all()
    assert candidates["is_malignant"].to_dict() == {
        **{f"nodulemnist3d-train-{k:04d}": k == 1 for k in range(3)},
        **{f"nodulemnist3d-test-{k:04d}": k == 1 for k in range(2)},
        "nodulemnist3d-val-0000": False,
    }
    folds = SOURCE.folds(tmp_path, catalogue)
    assert {uid.split("-")[1]: fold for uid, fold in folds.items()} == {"test": 0, "val": 1, "train": 2}
    assert folds["nodulemnist3d-test-0001"] == 0
    assert "6 nodules, 2 malignant" in tables.notes[0]


def test_another_md5_than_the_published_is_a_warning_and_the_published_is_none(tmp_path, monkeypatch):
    path = write_npz(tmp_path)
    catalogue = catalogue_of(tmp_path)
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    assert (
        f"Warning: nodulemnist3d.npz should have the published md5 8755a7e9e05a4d9ce80a24c3e7a256f3, got {md5}"
        in (SOURCE.tables(tmp_path, catalogue).notes[-1])
    )
    monkeypatch.setitem(module._MD5, path.name, md5)
    assert "md5" not in " ".join(SOURCE.tables(tmp_path, catalogue).notes)


def test_a_damaged_file_is_one_row_with_its_reason(tmp_path):
    (tmp_path / "nodulemnist3d.npz").write_bytes(b"PK\x03\x04 not whole")
    catalogue = catalogue_of(tmp_path)
    TABLES["ct_series"].validate(catalogue)
    (reason,) = unreadable_series(catalogue).values()
    assert "must be a whole .npz file" in reason
    assert len(SOURCE.tables(tmp_path, catalogue).candidates) == 0
    assert SOURCE.folds(tmp_path, catalogue) == {}


def test_fewer_nodules_than_in_the_catalogue_are_one_line(tmp_path):
    write_npz(tmp_path)
    catalogue, arrays = catalogue_of(tmp_path), arrays_of()
    write_npz(tmp_path, arrays | {name: values[:1] for name, values in arrays.items() if name.startswith("test")})
    with pytest.raises(UnreadableCtError, match=r"test must have a number below 1, got 1 .*Make the catalogue again"):
        SOURCE.tables(tmp_path, catalogue)


def test_one_of_the_two_sizes_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nodulemnist3d.npz or nodulemnist3d_64.npz, got neither"):
        catalogue_of(tmp_path)
    assert not SOURCE.is_at(tmp_path)
    write_npz(tmp_path)
    write_npz(tmp_path, name="nodulemnist3d_64.npz")
    assert SOURCE.is_at(tmp_path)
    with pytest.raises(ValueError, match="Keep one of them"):
        catalogue_of(tmp_path)


def test_cutouts_are_the_cubes_and_only_changed_nodules_are_cut_again(tmp_path):
    root = tmp_path / "data"
    write_npz(root)
    assert service_of(root, tmp_path).cut_many().num_cut == 6
    arrays = arrays_of()
    stored = CutoutStore(tmp_path / "cutouts").read("nodulemnist3d-train-0002")
    expected = np.rint(arrays["train_images"][2] * (2000 / 255) - 1000)
    assert (np.asarray(stored.ct_chunks[0]) == expected).all()
    assert stored.center_irc.tolist() == [[14, 14, 14]]
    # Another file with the same voxels is not cut again; a changed voxel is.
    arrays["test_images"][1, 3, 3, 3] ^= 1
    write_npz(root, arrays)
    summary = service_of(root, tmp_path).cut_many()
    assert summary.cut == ["nodulemnist3d-test-0001"]
    assert summary.num_current == 5


def test_numbers_that_no_hu_can_be_are_cut_here_and_refused_elsewhere(tmp_path):
    arrays = arrays_of()
    for name in ("train_images", "val_images", "test_images"):
        arrays[name][:] = 255
    root = tmp_path / "data"
    write_npz(root, arrays)
    assert service_of(root, tmp_path).cut_many().failed == {}
    volumes = CtVolumes.of_catalogue(catalogue_of(root), data_root=root, cache_dir=tmp_path / "cache")
    assert (volumes.read("nodulemnist3d-val-0000").hounsfield == 1000).all()


def test_whole_cubes_are_read_for_each_nodule(tmp_path):
    write_npz(tmp_path / "data")
    catalogue = catalogue_of(tmp_path / "data")
    volumes = CtVolumes.of_catalogue(catalogue, data_root=tmp_path / "data", cache_dir=tmp_path / "cache")
    first, second = (volumes.read(f"nodulemnist3d-test-{k:04d}").hounsfield for k in range(2))
    assert not (first == second).all()


def test_the_state_of_leaks_is_unknown(tmp_path):
    write_npz(tmp_path)
    catalogue = catalogue_of(tmp_path)
    folds = catalogue[["series_instance_uid", "patient_hash"]].assign(fold=0)
    test = folds[folds["series_instance_uid"].str.contains("test")].assign(candidate_id=range(2))
    seen = SeenData(model="m 1", training_series=["nodulemnist3d-train-0000"])
    report = leaks_of(seen, test=test, folds=folds)
    assert (report.state, report.num_unknown_patients, report.num_series) == ("unknown", 3, 3)


def test_gray_values_are_not_searched_for_the_same_scan(tmp_path):
    write_npz(tmp_path)
    catalogue = catalogue_of(tmp_path)
    assert scans_of_catalogue(catalogue, tmp_path) == []
    assert len(scans_of_catalogue(catalogue.assign(format="metaimage"), tmp_path)) == 6


def test_the_twin_goes_to_cutouts(tmp_path):
    root = tmp_path / "data"
    make_phantom(root, num_series=2, num_subsets=2, seed=3, size_irc=(40, 64, 64), source="nodulemnist3d")
    (located,) = locate_sources(root)
    assert located.name == "nodulemnist3d"
    service = service_of(root, tmp_path)
    assert len(service.candidates) > 0
    assert service.candidates["source"].unique().tolist() == ["candidate"]
    summary = service.cut_many()
    assert (len(summary.cut), summary.failed) == (len(service.uids), {})
