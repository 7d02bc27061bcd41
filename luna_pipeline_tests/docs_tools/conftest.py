"""The built site, once for all tests."""

from pathlib import Path

import pytest

from docs_tools import build


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.build(tmp_path_factory.mktemp("documentation"))
