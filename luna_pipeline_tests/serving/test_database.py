"""The jobs' database in PostgreSQL, and the folder that it belongs to."""

import os
from pathlib import Path

import pytest

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline_tests.postgres_server import postgres_running


@pytest.mark.slow
def test_a_database_is_of_one_folder_wherever_it_is_moved(tmp_path: Path):
    with postgres_running() as server:
        password = server.cluster.environment["JOBS_POSTGRES_PASSWORD"]
        config = ServiceConfig(database=f"postgresql://jobs:{password}@127.0.0.1:{server.cluster.port}/jobs")
        Jobs(ServiceFolders(tmp_path / "one"), config).close()
        with pytest.raises(ValueError, match="must be that of the service's folder, got that of another") as error:
            Jobs(ServiceFolders(tmp_path / "other"), config)
        assert password not in str(error.value)
        os.rename(tmp_path / "one", tmp_path / "moved")
        Jobs(ServiceFolders(tmp_path / "moved"), config).close()
