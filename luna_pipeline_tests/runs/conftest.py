"""An instance with the project's own dagster.yaml."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from luna_pipeline_tests.processes import REPOSITORY


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance
