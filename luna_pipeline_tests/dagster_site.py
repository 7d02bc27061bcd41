"""Dagster's own webserver and daemon on this project, as tests use them: its pages and its GraphQL."""

import contextlib
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import requests

from luna_pipeline_tests.conftest import Folders
from luna_pipeline_tests.processes import free_port, started, wait_for

LOCATION = {"repositoryLocationName": "luna_pipeline", "repositoryName": "__repository__"}
ENDED = {"CANCELED", "FAILURE", "SUCCESS"}
RUNS = "query($f: RunsFilter){runsOrError(filter:$f){... on Runs{results{runId status}}}}"


class Site:
    """A running webserver: its pages and its GraphQL."""

    def __init__(self, address: str, folders: Folders) -> None:
        self.address = address
        self.folders = folders

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of a GraphQL answer without errors."""
        answer = requests.post(
            f"{self.address}/graphql", json={"query": query, "variables": variables}, timeout=30
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def runs(self, job: str) -> list[dict[str, str]]:
        """Return id and status of a job's runs, the newest first."""
        return self.ask(RUNS, f={"pipelineName": job})["runsOrError"]["results"]

    def ended_run(self, job: str, *, before: int) -> Any:
        """Return the newest run of a job that has had ``before`` earlier ones, once it has ended."""

        def ended() -> dict[str, str] | None:
            runs = self.runs(job)
            return runs[0] if len(runs) > before and runs[0]["status"] in ENDED else None

        return wait_for(ended, limit_seconds=600, what=f"The end of {job}")


@contextlib.contextmanager
def served(folders: Folders, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run `dagster dev` on an installation, and yield its address once it answers."""
    port = free_port()
    command = ["dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    with started(command, environment={**folders.environment, **(environment or {})}, log=folders.log) as process:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{address}/server_info"), limit_seconds=300, what="The webserver's answer")
        yield address
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: process.poll() is not None, limit_seconds=300, what="The webserver's end")


def answers(address: str) -> bool:
    """Return whether a server answers."""
    try:
        return requests.get(address, timeout=2).ok
    except requests.RequestException:
        return False
