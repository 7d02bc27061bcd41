"""What tests ask a running stack: its webserver by GraphQL, its database by Dagster's own instance."""

import contextlib
import os
from collections.abc import Iterator, Mapping

import dagster as dg
import requests

ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
LAUNCH = """mutation($p: ExecutionParams!){launchPipelineExecution(executionParams:$p){
    __typename ... on LaunchRunSuccess{run{runId}} ... on PythonError{message}}}"""
TERMINATE = """mutation($r: String!){terminateRun(runId:$r){__typename ... on TerminateRunFailure{message}}}"""


RUNS = """query($f: RunsFilter){runsOrError(filter:$f){... on Runs{results{
    runId rootRunId jobName status tags{key value} creationTime}}}}"""


def ask(address: str, query: str, **variables) -> dict:
    """Ask the webserver."""
    answer = requests.post(f"{address}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
    assert "errors" not in answer, answer
    return answer["data"]


def launch(
    address: str, job: str, *, config: Mapping | None = None, assets: tuple[str, ...] = (), partition: str | None = None
) -> str:
    """Launch a run as the page does, by the queue; return its id."""
    selector: dict = {
        "repositoryLocationName": "luna_pipeline",
        "repositoryName": "__repository__",
        "pipelineName": job,
    }
    if assets:
        selector["assetSelection"] = [{"path": [name]} for name in assets]
    tags = [{"key": "dagster/partition", "value": partition}] if partition else []
    params = {
        "selector": selector,
        "runConfigData": config or {},
        "mode": "default",
        "executionMetadata": {"tags": tags},
    }
    answer = ask(address, LAUNCH, p=params)["launchPipelineExecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return answer["run"]["runId"]


def runs_of(address: str, **wanted) -> list[dict]:
    """Runs by Dagster's own filter, the oldest first."""
    found = ask(address, RUNS, f=wanted)["runsOrError"]["results"]
    for run in found:
        run["tags"] = {tag["key"]: tag["value"] for tag in run["tags"]}
    return sorted(found, key=lambda run: run["creationTime"])


def shown_attempts(address: str, run_id: str) -> list[dict]:
    """A run and its retries, as the page has them."""
    return [run for run in runs_of(address) if run_id in (run["runId"], run["rootRunId"])]


def is_shown_ended(address: str, run_id: str) -> bool:
    """Whether a run ended, and no daemon will try it again; False while the page does not answer."""
    with contextlib.suppress(requests.RequestException, AssertionError):
        last = shown_attempts(address, run_id)[-1]
        decided = last["status"] != "FAILURE" or last["tags"].get("dagster/will_retry") == "false"
        return last["status"] in {"SUCCESS", "FAILURE", "CANCELED"} and decided
    return False


@contextlib.contextmanager
def instance_of(environment: Mapping[str, str]) -> Iterator[dg.DagsterInstance]:
    """Open the stack's instance, whose configuration reads the environment."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
            yield instance
    finally:
        os.environ.clear()
        os.environ.update(before)


def attempts(instance: dg.DagsterInstance, run_id: str) -> list[dg.DagsterRun]:
    """A run and its retries, in order."""
    found = instance.get_run_group(run_id)
    runs = list(found[1]) if found else []
    return sorted(runs, key=lambda run: instance.get_run_record_by_id(run.run_id).create_timestamp)


def has_ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run ended, and no daemon will try it again."""
    last = attempts(instance, run_id)[-1]
    if last.status == dg.DagsterRunStatus.FAILURE:
        # Said a moment after the failure.
        return last.tags.get("dagster/will_retry") == "false"
    return last.status in ENDED


def reasons(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Why a run failed, as its page says."""
    found = instance.all_logs(run_id, of_type={dg.DagsterEventType.RUN_FAILURE})
    return [str(entry.dagster_event.message) for entry in found if entry.dagster_event]
