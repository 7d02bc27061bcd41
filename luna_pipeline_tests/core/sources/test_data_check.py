"""All faults of ten broken folders are named, and none of a clean one."""

import re
import shutil

import pytest

from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.core.sources.data_check import check_source
from luna_pipeline.core.sources.located import locate_sources
from luna_pipeline_tests.core.sources.broken_folders import BROKEN, SEED, SIZE


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    roots = {}
    for source in ("csv_and_folder", "luna16"):
        roots[source] = tmp_path_factory.mktemp(source) / "data"
        make_phantom(roots[source], num_series=4, num_subsets=2, seed=SEED, size_irc=SIZE, source=source)
    return roots


def faults_of(root, source, **options):
    (located,) = locate_sources(root, [source])
    return check_source(located, root, **options).faults


@pytest.mark.parametrize("reads_voxels", [False, True])
@pytest.mark.parametrize("source", ["csv_and_folder", "luna16"])
def test_a_clean_folder_has_no_faults(clean, source, reads_voxels):
    assert faults_of(clean[source], source, reads_voxels=reads_voxels, workers=2) == ()


@pytest.mark.parametrize("name", BROKEN)
def test_all_faults_of_a_broken_folder_are_named_and_no_others(clean, tmp_path, name):
    broken = BROKEN[name]
    root = tmp_path / "data"
    shutil.copytree(clean[broken.source], root)
    broken.spoil(root)
    faults = faults_of(root, broken.source, reads_voxels=name in ("masks", "files"), workers=2)
    for patterns, is_error in ((broken.errors, True), (broken.warnings, False)):
        lines = [str(fault) for fault in faults if fault.is_error == is_error]
        for pattern in patterns:
            assert any(re.search(pattern, line) for line in lines), (pattern, lines)
        left = [line for line in lines if not any(re.search(pattern, line) for pattern in patterns)]
        assert left == []
        assert len(lines) == len(patterns), lines
        assert not any("\n" in line or "PHANTOM-" in line for line in lines)
