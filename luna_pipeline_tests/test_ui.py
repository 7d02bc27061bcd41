"""What a person does and sees on Dagster's page of this project, in a browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.partitions import versions_by_series
from luna_pipeline.runs.nested import MAX_RETRIES_TAG, PARENT_TAG
from luna_pipeline_tests.browsers import keep_picture, opened_browser
from luna_pipeline_tests.conftest import laid_out
from luna_pipeline_tests.dagster_site import LOCATION, Site, served
from luna_pipeline_tests.prepared import CUT, INGEST, run_on
from luna_pipeline_tests.processes import wait_for

pytestmark = pytest.mark.slow

RECUT = ("recut_changed", {})
JOB_RUNS = """query($s: PipelineSelector!){pipelineOrError(params: $s){... on Pipeline{
    runs{runId status tags{key value}}}}}"""
REEXECUTE = """mutation($p: ReexecutionParams){launchPipelineReexecution(reexecutionParams: $p){
    __typename ... on LaunchRunSuccess{run{runId}} ... on PythonError{message}}}"""
OUTCOMES = """query($k: AssetKeyInput!, $p: [String!]){assetOrError(assetKey: $k){... on Asset{
    assetMaterializations(partitions: $p, limit: 1){metadataEntries{label ... on TextMetadataEntry{text}}}}}}"""
# Left edge in pixels of each box of a graph, by name. A long name of a group is cut in its middle, and is whole as tip.
LEFT_EDGES = """boxes => Object.fromEntries(boxes.map(box => [
    box.querySelector('[data-tooltip^=stage_]')?.dataset.tooltip ?? box.textContent,
    box.getBoundingClientRect().x]))"""
STAGES = [
    *("stage_1_ct", "stage_2_candidates", "stage_3_cutouts"),
    *("stage_4_training", "stage_5_evaluation", "stage_6_diagnosis"),
]
CHAIN = [
    *("annotations", "candidates", "cutouts", "cutout_index", "nodule_classifier"),
    *("nodule_predictions", "nodule_froc", "leaderboard", "champion"),
]


@pytest.fixture(scope="module")
def site(phantom_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`dagster dev` on a phantom that is catalogued but not cut."""
    folders = laid_out(phantom_source, tmp_path_factory.mktemp("ui"))
    run_on(folders, INGEST)
    with served(folders) as address:
        yield Site(address, folders)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    """One browser for all tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, opened_browser(playwright, "chromium", tmp_path_factory.mktemp("b")) as it:
        yield it


@pytest.fixture
def page(browser, tmp_path: Path, request: pytest.FixtureRequest):
    """A browser's page of 1600 × 1000 pixels; a picture of how it looks at the end of the test is kept."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(300_000)
    yield page
    keep_picture(page, request.node.name, tmp_path)
    page.close()


def _uids(site: Site) -> list[str]:
    return sorted(path.stem for path in site.folders.data.rglob("*.mhd"))


def _materialized(site: Site) -> set[str]:
    with dg.DagsterInstance.from_config(str(site.folders.dagster)) as instance:
        uids = instance.get_dynamic_partitions("series_instance_uid")
        return set(versions_by_series(instance, "cutouts", uids))


def _left_edges(page, names: list[str]) -> list[float]:
    """Return where the boxes of a graph begin, once all are drawn."""
    boxes = page.locator("foreignObject")
    wait_for(lambda: set(boxes.evaluate_all(LEFT_EDGES)) >= set(names), limit_seconds=300, what=f"The boxes of {names}")
    edges = boxes.evaluate_all(LEFT_EDGES)
    return [edges[name] for name in names]


def _materialize(site: Site, page, uids: list[str], *, picture: str, folder: Path) -> None:
    """Choose series on the page of the cutouts, and launch."""
    page.goto(f"{site.address}/assets/cutouts?view=partitions")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Select a partition or create one").click()
    for uid in uids:
        page.keyboard.press("Control+a")
        page.keyboard.type(uid)
        page.get_by_role("menuitem").filter(has_text=uid[:12]).first.click()
    page.keyboard.press("Escape")
    keep_picture(page, picture, folder)
    dialog.get_by_role("button", name="Launch").last.click()


def test_boxes_of_the_stages_stand_in_their_order(site: Site, page):
    page.goto(f"{site.address}/asset-groups")
    edges = _left_edges(page, STAGES)
    assert edges == sorted(set(edges))


def test_the_lineage_of_the_champion_leads_back_to_the_annotations(site: Site, page):
    # Large enough to read the names in the picture.
    page.set_viewport_size({"width": 2800, "height": 1800})
    page.goto(f"{site.address}/assets/champion?view=lineage&lineageScope=upstream&lineageDepth=20")
    edges = _left_edges(page, CHAIN)
    assert edges == sorted(set(edges))


def test_a_wrong_configuration_is_refused_and_its_field_is_named(site: Site, page, tmp_path):
    page.goto(f"{site.address}/locations/luna_pipeline/jobs/train_nodule_classifier/playground")
    page.get_by_text("No errors").first.wait_for()
    launch, place = page.get_by_role("button", name="Launch Run"), "root:ops:nodule_classifier:config"

    def write(config: str) -> None:
        page.locator(".CodeMirror").first.click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(f"ops: {{nodule_classifier: {{config: {config}}}}}")

    for field, config, words in (
        ("epochs", "{recipe: demo, epochs: many}", 'Value "many" of type'),
        ("recipe", "{recipe: demoo}", "not in enum type .*demo got demoo"),
    ):
        write(config)
        page.get_by_text(re.compile(f"{place}:{field}.*{words}")).first.wait_for()
        wait_for(launch.is_disabled, limit_seconds=300, what="The refusal")
        keep_picture(page, f"refused_{field}", tmp_path)
    write("{recipe: demo, epochs: 0}")
    launch.click()
    page.get_by_text("epochs must be greater than or equal to 1, got 0 (configuration of nodule_classifier)").wait_for()
    assert site.runs("train_nodule_classifier") == []


def test_cutouts_of_one_series_alone_and_then_of_chosen_ones_are_made_from_the_page(site: Site, page, tmp_path):
    uids = _uids(site)
    _materialize(site, page, [uids[1]], picture="one_series", folder=tmp_path)
    wait_for(lambda: _materialized(site), limit_seconds=300, what="Cutting one series")
    assert _materialized(site) == {uids[1]}
    assert CutoutStore(site.folders.home / "cutouts").uids() == [uids[1]]

    chosen = {uids[0], uids[3], uids[4]}
    _materialize(site, page, sorted(chosen), picture="chosen_series", folder=tmp_path)
    made = {uids[1], *chosen}
    wait_for(lambda: _materialized(site) == made, limit_seconds=300, what="Cutting the chosen series")
    assert set(CutoutStore(site.folders.home / "cutouts").uids()) == made
    page.get_by_text("Materialized (4)").wait_for()
    page.goto(f"{site.address}/runs?view=backfills")
    page.get_by_text("3 partitions").wait_for()


def test_an_edited_annotation_leads_to_one_series_cut_again(site: Site, page, tmp_path):
    run_on(site.folders, CUT)
    table = site.folders.data / "annotations.csv"
    rows = pd.read_csv(table, dtype=str)
    edited = rows.loc[0, "seriesuid"]
    rows.loc[0, "coordX"] = str(float(rows.loc[0, "coordX"]) + 0.5)
    rows.to_csv(table, index=False)
    times = _times(site)
    before = len(site.runs("recut_changed"))
    page.goto(f"{site.address}/locations/luna_pipeline/jobs/recut_changed/playground")
    page.get_by_role("button", name="Launch Run").click()
    run = site.ended_run("recut_changed", before=before)
    assert run["status"] == "SUCCESS"
    assert {uid for uid, at in _times(site).items() if times[uid] != at} == {edited}
    page.goto(f"{site.address}/runs/{run['runId']}")
    page.get_by_text("1 series cut, 5 current, 0 failed").first.wait_for()
    keep_picture(page, "recut_run", tmp_path)
    page.goto(f"{site.address}/assets/cutouts?view=partitions&partition={edited}")
    page.get_by_text("Materialized (6)").wait_for()
    outcomes = {uid: _outcome(site, uid) for uid in _uids(site)}
    assert outcomes == {uid: "cut" if uid == edited else "current" for uid in outcomes}


def _times(site: Site) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (site.folders.home / "cutouts").glob("*.npz")}


def _outcome(site: Site, uid: str) -> str:
    (event,) = site.ask(OUTCOMES, k={"path": ["cutouts"]}, p=[uid])["assetOrError"]["assetMaterializations"]
    return next(entry["text"] for entry in event["metadataEntries"] if entry["label"] == "outcome")


def test_nested_run_is_listed_below_its_job_and_reexecuted_as_a_run_of_its_own(site: Site, page):
    if not site.runs("index"):
        run_on(site.folders, RECUT)
    job = {**LOCATION, "pipelineName": "index"}
    before = site.ask(JOB_RUNS, s=job)["pipelineOrError"]["runs"]
    nested = before[0]
    page.goto(f"{site.address}/runs")
    page.get_by_text("recut_changed ").first.wait_for()
    assert [tag["value"][:14] for tag in nested["tags"] if tag["key"] == "user"] == ["recut_changed "]
    again = site.ask(REEXECUTE, p={"parentRunId": nested["runId"], "strategy": "ALL_STEPS"})
    assert again["launchPipelineReexecution"]["__typename"] == "LaunchRunSuccess"
    site.ended_run("index", before=len(before))
    run, *others = site.ask(JOB_RUNS, s=job)["pipelineOrError"]["runs"]
    assert [run["status"], *(other["status"] for other in others)] == ["SUCCESS"] * (len(before) + 1)
    assert {tag["key"] for tag in run["tags"]}.isdisjoint({PARENT_TAG, MAX_RETRIES_TAG, "user"})


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
    wait_for(last.exists, limit_seconds=300, what="The first epoch")
    page.goto(f"{site.address}/runs/{run_id}")
    page.get_by_role("button", name="Terminate").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Terminate").click()
    assert site.ended_run("train_nodule_classifier", before=0)["status"] == "CANCELED"
    load_checkpoint(last)
    client = mlflow.MlflowClient(f"sqlite:///{site.folders.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("luna_pipeline")
    statuses = [run.info.status for run in client.search_runs([experiment.experiment_id])]
    assert statuses == ["KILLED"]


def test_the_reason_of_a_failed_series_is_on_the_pages_of_partition_run_and_check(site: Site, page, tmp_path):
    (raw,) = site.folders.data.rglob(f"{_uids(site)[2]}.raw")
    whole = raw.read_bytes()
    raw.write_bytes(whole[:100_000])
    with pytest.raises(AssertionError, match="recut_changed"):
        run_on(site.folders, RECUT)
    raw.write_bytes(whole)
    reason = f"must fill 393216 bytes, got 100000 ({raw.name}"
    run, cut = (site.runs(job)[0] for job in ("recut_changed", "cut"))
    for name, place in (
        ("failed_run", f"runs/{run['runId']}"),
        ("failed_nested_run", f"runs/{cut['runId']}"),
        ("failed_check", "assets/ct_series?view=checks&checkDetail=every_ct_is_readable"),
        ("failed_partition", f"assets/cutouts?view=partitions&partition={raw.stem}"),
    ):
        page.goto(f"{site.address}/{place}")
        page.get_by_text(reason).first.wait_for()
        keep_picture(page, name, tmp_path)
    page.get_by_text("Failed (1)").first.wait_for()
