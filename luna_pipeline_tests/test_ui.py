"""Dagster's own webserver and daemon on this project, used with a browser."""

import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import requests

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.partitions import versions_by_series
from luna_pipeline.runs.nested import MAX_RETRIES_TAG, PARENT_TAG
from luna_pipeline_tests.browsers import opened_browser
from luna_pipeline_tests.conftest import Folders, laid_out
from luna_pipeline_tests.prepared import CUT, INGEST, run_on
from luna_pipeline_tests.processes import free_port, started, wait_for

pytestmark = pytest.mark.slow

LOCATION = {"repositoryLocationName": "luna_pipeline", "repositoryName": "__repository__"}
JOB_RUNS = """query($s: PipelineSelector!){pipelineOrError(params: $s){... on Pipeline{
    runs{runId status tags{key value}}}}}"""
REEXECUTE = """mutation($p: ReexecutionParams){launchPipelineReexecution(reexecutionParams: $p){
    __typename ... on LaunchRunSuccess{run{runId}} ... on PythonError{message}}}"""


class Site:
    """A running webserver: its pages and its GraphQL."""

    def __init__(self, address: str, folders: Folders) -> None:
        self.address = address
        self.folders = folders

    def ask(self, query: str, **variables) -> dict:
        answer = requests.post(
            f"{self.address}/graphql", json={"query": query, "variables": variables}, timeout=30
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def runs(self, job: str) -> list[dict]:
        query = "query($f: RunsFilter){runsOrError(filter:$f){... on Runs{results{runId status}}}}"
        return self.ask(query, f={"pipelineName": job})["runsOrError"]["results"]


@pytest.fixture(scope="module")
def site(phantom_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`dagster dev` on a phantom that is catalogued but not cut."""
    root = tmp_path_factory.mktemp("ui")
    folders = laid_out(phantom_source, root)
    run_on(folders, INGEST)
    port = free_port()
    command = ["dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    with started(command, environment=folders.environment, log=folders.log) as process:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{address}/server_info"), limit_seconds=120, what="The webserver's answer")
        yield Site(address, folders)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: process.poll() is not None, limit_seconds=60, what="The webserver's end")


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=2).ok
    except requests.ConnectionError:
        return False


@pytest.fixture
def page(site: Site, tmp_path: Path):
    """A browser's page of 1600 × 1000 pixels."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, opened_browser(playwright, "chromium", tmp_path) as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(60_000)
        yield page


def _materialized(site: Site) -> set[str]:
    with dg.DagsterInstance.from_config(str(site.folders.dagster)) as instance:
        uids = instance.get_dynamic_partitions("series_instance_uid")
        return set(versions_by_series(instance, "cutouts", uids))


def test_cutouts_of_one_series_alone_and_then_of_all_are_made_from_the_page(site: Site, page):
    uids = sorted(path.stem for path in site.folders.data.rglob("*.mhd"))
    page.goto(f"{site.address}/assets/cutouts?view=partitions")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Select a partition or create one").click()
    page.keyboard.type(uids[1])
    page.get_by_role("menuitem").filter(has_text=uids[1][:12]).first.click()
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Launch").last.click()
    wait_for(lambda: _materialized(site), limit_seconds=120, what="Cutting one series")
    assert _materialized(site) == {uids[1]}
    assert CutoutStore(site.folders.home / "cutouts").uids() == [uids[1]]

    page.goto(f"{site.address}/assets/cutouts?view=partitions")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="All", exact=True).click()
    dialog.get_by_role("button", name="Launch").last.click()
    wait_for(lambda: _materialized(site) == set(uids), limit_seconds=180, what="Cutting all series")
    assert sorted(CutoutStore(site.folders.home / "cutouts").uids()) == uids


def test_nested_run_is_listed_below_its_job_and_reexecuted_as_a_run_of_its_own(site: Site):
    run_on(site.folders, ("recut_changed", {}))
    job = {**LOCATION, "pipelineName": "index"}
    (nested,) = site.ask(JOB_RUNS, s=job)["pipelineOrError"]["runs"]
    assert [tag["value"][:14] for tag in nested["tags"] if tag["key"] == "user"] == ["recut_changed "]
    again = site.ask(REEXECUTE, p={"parentRunId": nested["runId"], "strategy": "ALL_STEPS"})
    assert again["launchPipelineReexecution"]["__typename"] == "LaunchRunSuccess"
    ended = {"CANCELED", "FAILURE", "SUCCESS"}
    wait_for(lambda: site.runs("index")[0]["status"] in ended, limit_seconds=120, what="The end of the re-execution")
    runs = site.ask(JOB_RUNS, s=job)["pipelineOrError"]["runs"]
    assert [run["status"] for run in runs] == ["SUCCESS", "SUCCESS"]
    assert {tag["key"] for tag in runs[0]["tags"]}.isdisjoint({PARENT_TAG, MAX_RETRIES_TAG, "user"})


def test_terminate_in_the_page_cancels_the_run_and_kills_the_mlflow_run(site: Site, page):
    import mlflow

    run_on(site.folders, CUT)
    query = """mutation($p: ExecutionParams!){launchPipelineExecution(executionParams:$p){
        __typename ... on LaunchRunSuccess{run{runId}} ... on PythonError{message}}}"""
    config = {"ops": {"nodule_classifier": {"config": {"recipe": "demo", "epochs": 200, "batch_size": 8}}}}
    selector = {**LOCATION, "pipelineName": "train_nodule_classifier"}
    launched = site.ask(query, p={"selector": selector, "runConfigData": config, "mode": "default"})
    run_id = launched["launchPipelineExecution"]["run"]["runId"]
    last = site.folders.home / "checkpoints/nodule_classifier/0.0.1-fold0/last.pt"
    wait_for(last.exists, limit_seconds=180, what="The first epoch")
    page.goto(f"{site.address}/runs/{run_id}")
    page.get_by_role("button", name="Terminate").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Terminate").click()
    ended = {"CANCELED", "FAILURE", "SUCCESS"}
    runs = wait_for(
        lambda: [run for run in site.runs("train_nodule_classifier") if run["status"] in ended],
        limit_seconds=120,
        what="The end of the run",
    )
    assert [run["status"] for run in runs] == ["CANCELED"]
    load_checkpoint(last)
    client = mlflow.MlflowClient(f"sqlite:///{site.folders.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("luna_pipeline")
    statuses = [run.info.status for run in client.search_runs([experiment.experiment_id])]
    assert statuses == ["KILLED"]
