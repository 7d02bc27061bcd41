import gc
import weakref

import pytest

from luna_pipeline.core.ct.file_maps import mapped_file


def test_all_who_look_at_a_file_share_its_map(tmp_path):
    path = tmp_path / "ct.raw"
    path.write_bytes(b"voxels")
    first = mapped_file(path)
    assert first[:] == b"voxels"
    assert mapped_file(path) is first
    (tmp_path / "link.raw").hardlink_to(path)
    assert mapped_file(tmp_path / "link.raw") is first


def test_a_file_that_was_replaced_is_mapped_anew(tmp_path):
    path = tmp_path / "ct.raw"
    path.write_bytes(b"voxels")
    old = mapped_file(path)
    (tmp_path / "new").write_bytes(b"others")
    (tmp_path / "new").replace(path)
    assert mapped_file(path)[:] == b"others"
    assert old[:] == b"voxels"


def test_a_map_that_nobody_holds_is_given_back(tmp_path):
    path = tmp_path / "ct.raw"
    path.write_bytes(b"voxels")
    seen = weakref.ref(mapped_file(path))
    gc.collect()
    assert seen() is None


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty"):
        mapped_file(tmp_path / "empty")
