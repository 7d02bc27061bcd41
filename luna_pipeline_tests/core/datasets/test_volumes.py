import numpy as np
import pytest

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.file_maps import map_of
from luna_pipeline.core.datasets.volumes import CtVolumes
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct, write_dicom_series

VOXELS = random_hounsfield((6, 8, 10))
FLIPPED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def volumes_of(tmp_path) -> CtVolumes:
    catalogue = catalogue_series(tmp_path / "data", patient_key=b"key")
    return CtVolumes.of_catalogue(catalogue, data_root=tmp_path / "data", cache_dir=tmp_path / "cache")


def test_a_raw_ct_is_mapped_where_it_is(tmp_path):
    write_ct(tmp_path / "data", "1.2", VOXELS)
    volume = volumes_of(tmp_path).read("1.2")
    assert np.array_equal(volume.hounsfield, VOXELS)
    assert map_of(volume.hounsfield) is not None
    assert not (tmp_path / "cache").exists()


def test_a_packed_ct_is_decoded_once_and_mapped(tmp_path, monkeypatch):
    write_ct(tmp_path / "data", "1.2", VOXELS, is_compressed=True)
    volumes = volumes_of(tmp_path)
    first = volumes.read("1.2")
    assert np.array_equal(first.hounsfield, VOXELS)
    assert map_of(first.hounsfield) is not None
    (decoded,) = (tmp_path / "cache/volumes").iterdir()
    assert decoded.stat().st_size == 2 * VOXELS.size
    monkeypatch.setattr("luna_pipeline.core.datasets.volumes.read_ct", None)
    assert np.array_equal(volumes.read("1.2").hounsfield, VOXELS)


def test_a_truncated_decoded_ct_is_decoded_again(tmp_path):
    write_ct(tmp_path / "data", "1.2", VOXELS, is_compressed=True)
    volumes = volumes_of(tmp_path)
    volumes.read("1.2")
    (decoded,) = (tmp_path / "cache/volumes").iterdir()
    decoded.write_bytes(decoded.read_bytes()[:-2])
    assert np.array_equal(volumes.read("1.2").hounsfield, VOXELS)


def test_a_dicom_series_is_decoded(tmp_path):
    write_dicom_series(tmp_path / "data/1.2", "1.2", VOXELS)
    volume = volumes_of(tmp_path).read("1.2")
    assert map_of(volume.hounsfield) is not None
    assert np.array_equal(volume.hounsfield, VOXELS)


def test_a_flipped_ct_is_read_from_feet_to_head(tmp_path):
    write_ct(tmp_path / "data", "1.2", VOXELS, direction=FLIPPED)
    volumes = volumes_of(tmp_path)
    volume = volumes.read("1.2")
    assert np.array_equal(volume.hounsfield, VOXELS[::-1])
    assert volume.grid == volumes.grid("1.2")
    assert volume.grid.direction[8] == 1.0


def test_unknown_changed_and_other_files_are_refused(tmp_path):
    write_ct(tmp_path / "data", "1.2", VOXELS)
    write_ct(tmp_path / "data", "1.3", (VOXELS > 0).astype(np.int16))
    volumes = volumes_of(tmp_path)
    with pytest.raises(UnreadableCtError, match=r"must be in the catalogue, got 1\.9"):
        volumes.read("1.9")
    with pytest.raises(UnreadableCtError, match="Voxels must be HU"):
        volumes.read("1.3")
    write_ct(tmp_path / "data", "1.2", VOXELS[1:])
    with pytest.raises(UnreadableCtError, match="must be as catalogued, got another grid"):
        volumes.read("1.2")
