"""Folders of the service: for their owner, and no id leads out of them."""

import contextlib
import stat

import pytest

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.jobs import Jobs


def test_a_new_folder_is_for_its_owner_and_one_that_is_there_keeps_its_rights(tmp_path):
    for name, mode in (("new", 0o700), ("shared", 0o750)):
        folders = ServiceFolders(tmp_path / name)
        if name == "shared":
            folders.root.mkdir(mode=mode)
        with contextlib.closing(Jobs(folders, ServiceConfig())):
            assert stat.S_IMODE(folders.root.stat().st_mode) == mode


@pytest.mark.parametrize(
    "job_id", ["", "..", "../" + "a" * 29, "A" * 32, "a" * 31, "a" * 33, "a" * 31 + "\n", "a/" * 16]
)
def test_an_id_that_is_none_leads_to_no_folder_and_is_not_repeated(tmp_path, job_id):
    with pytest.raises(ValueError, match=f"32 hexadecimal digits, got {len(job_id)} characters of another kind"):
        ServiceFolders(tmp_path).job(job_id)


def test_staging_folders_have_random_names(tmp_path):
    folders = ServiceFolders(tmp_path)
    names = {folders.new_staging().name for _ in range(10)}
    assert len(names) == 10
    assert all(len(name) == 32 for name in names)
