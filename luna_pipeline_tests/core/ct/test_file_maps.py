import errno
import gc
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.ct import file_maps
from luna_pipeline.core.ct.file_maps import MapLimitError, advise_random_access, map_of, map_open_file, mapped_file


def test_all_who_look_at_a_file_share_its_map(tmp_path):
    path = tmp_path / "ct.raw"
    path.write_bytes(b"voxels")
    first = mapped_file(path)
    assert first[:] == b"voxels"
    assert map_of(mapped_file(path)) is map_of(first)
    (tmp_path / "link.raw").hardlink_to(path)
    assert map_of(mapped_file(tmp_path / "link.raw")) is map_of(first)


def test_a_file_that_was_replaced_is_mapped_anew(tmp_path):
    path = tmp_path / "ct.raw"
    path.write_bytes(b"voxels")
    old = mapped_file(path)
    (tmp_path / "new").write_bytes(b"others")
    (tmp_path / "new").replace(path)
    assert mapped_file(path)[:] == b"others"
    assert old[:] == b"voxels"


def test_a_map_without_users_is_unmapped_and_one_of_its_arrays_is_a_user(tmp_path):
    path = tmp_path / "ct.raw"
    path.write_bytes(bytes(range(8)))
    before = len(file_maps._ADDRESSES)
    voxels = np.frombuffer(mapped_file(path), np.int16, offset=2).reshape(3, 1)[1:]
    gc.collect()
    assert len(file_maps._ADDRESSES) == before + 1
    assert voxels.tolist() == [[0x0504], [0x0706]]
    assert not voxels.flags.writeable
    advise_random_access(voxels)
    assert str(path) in Path("/proc/self/maps").read_text()
    del voxels
    gc.collect()
    assert len(file_maps._ADDRESSES) == before
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_maps_keep_no_file_open(tmp_path):
    for number in range(60):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 8)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        maps = [mapped_file(tmp_path / str(number)) for number in range(60)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [content[7] for content in maps] == list(range(60))


def test_more_maps_than_the_system_allows_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "ct.raw").write_bytes(b"voxels")
    monkeypatch.setattr(file_maps, "_limit", lambda: len(file_maps._ADDRESSES))
    with pytest.raises(MapLimitError, match=r"ct.raw\). Raise vm.max_map_count") as caught:
        mapped_file(tmp_path / "ct.raw")
    assert caught.value.errno == errno.ENOMEM


def test_a_descriptor_that_cannot_be_mapped_is_an_error_of_the_system(tmp_path):
    with (tmp_path / "written").open("wb") as file:
        file.write(b"voxels")
        file.flush()
        with pytest.raises(PermissionError, match="Permission denied"):
            map_open_file(file.fileno(), file.name)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty"):
        mapped_file(tmp_path / "empty")
