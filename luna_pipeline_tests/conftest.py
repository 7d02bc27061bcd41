"""What all tests share: where real data lies, if anywhere."""

import os
import shutil
from pathlib import Path

import pytest

from luna_pipeline_tests.real_data import make_lidc_root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real scans, tables and weights; tests that need it are marked `real`."""
    folder = os.environ.get("LUNA_TEST_DATA")
    if not folder:
        pytest.skip("LUNA_TEST_DATA names no folder of real test data")
    return Path(folder)


@pytest.fixture(scope="session")
def lidc_root(real_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """A data root in LUNA16's form with two whole LIDC-IDRI scans; read only, shared by the session."""
    root = tmp_path_factory.mktemp("lidc")
    make_lidc_root(real_data, root)
    yield root
    shutil.rmtree(root, ignore_errors=True)
