"""What a person sees of two evaluated trainings in MLflow and TensorBoard: their servers' answers, and their pages."""

import json
import re
from collections.abc import Iterator
from functools import partial

import pytest
import requests
from mlflow import MlflowClient
from mlflow.models import Model

from luna_pipeline.core.evaluation.plots import roc_and_pr_png
from luna_pipeline.core.evaluation.report import binary_report
from luna_pipeline.launchers.evaluation.mlflow_metrics import log_fold_figures, log_fold_metrics
from luna_pipeline.launchers.evaluation.official_scores import pooled_checkpoints
from luna_pipeline.launchers.evaluation.reports import errors_of, model_cards, subgroups_of
from luna_pipeline.tracking.pages import mlflow_page, tensorboard_page
from luna_pipeline_tests.browsers import QUIET, keep_picture, opened_browser
from luna_pipeline_tests.launchers.evaluated import NODULE_CLASSIFIER, evaluated_source
from luna_pipeline_tests.processes import free_port, started, wait_for
from luna_pipeline_tests.tracking.test_mlflow_server import Server

__all__ = ["evaluated_source"]

pytestmark = pytest.mark.slow

RUNS = {f"0.0.1-fold{fold}{part}" for fold in (0, 1) for part in ("", "/training", "/validation")}
VALIDATED = {run for run in RUNS if run.endswith("validation")}


@pytest.fixture(scope="module")
def run_id(evaluated_source) -> str:
    """MLflow run of the first fold's classifier, after the evaluation has logged what it finds."""
    settings, pooled, store = evaluated_source.settings, evaluated_source.pooled, evaluated_source.home.store
    log_fold_metrics(settings, pooled)
    draw = partial(roc_and_pr_png, is_synthetic=True)
    log_fold_figures(settings, pooled, "roc_and_pr", whole=draw(pooled.predictions), draw=draw)
    errors_of(settings, pooled, NODULE_CLASSIFIER, store, positives="nodules")
    report = binary_report(pooled.predictions, num_bootstraps=20)
    model_cards(settings, pooled, report=report, subgroups=subgroups_of(settings, pooled), store=store)
    _, checkpoint = next(pooled_checkpoints(settings, pooled))
    return checkpoint.mlflow_run_id


@pytest.fixture(scope="module")
def tensorboard(evaluated_source, run_id, tmp_path_factory) -> Iterator[str]:
    """Address of TensorBoard, which has read all logs."""
    port, logs = free_port(), evaluated_source.settings.local_home / "tensorboard" / NODULE_CLASSIFIER
    command = ["tensorboard", "--host", "127.0.0.1", "--port", str(port), "--logdir", str(logs)]
    address = f"http://127.0.0.1:{port}"

    def has_read_all() -> bool:
        try:
            return set(requests.get(f"{address}/data/runs", timeout=5).json()) >= RUNS
        except requests.ConnectionError:
            return False

    with started(command, environment={}, log=tmp_path_factory.mktemp("tensorboard") / "log.txt"):
        wait_for(has_read_all, limit_seconds=120, what="TensorBoard's answer")
        yield address


@pytest.fixture(scope="module")
def mlflow(evaluated_source, run_id) -> Iterator[str]:
    """Address of MLflow's server."""
    server = Server(evaluated_source.settings.home.parent)
    server.start()
    yield server.uri
    server.stop()


def test_tensorboard_has_curves_histograms_pictures_and_hyperparameters(tensorboard):
    def tags(plugin: str) -> dict[str, set[str]]:
        found = requests.get(f"{tensorboard}/data/plugin/{plugin}/tags", timeout=30).json()
        return {run: set(names) for run, names in found.items() if names}

    scalars = tags("scalars")
    assert {run for run, names in scalars.items() if "epoch/loss" in names} == RUNS - {"0.0.1-fold0", "0.0.1-fold1"}
    assert "training_batch/loss" in scalars["0.0.1-fold0"]
    assert {run for run, names in tags("pr_curves").items() if "precision_recall" in names} >= VALIDATED
    assert {run for run, names in tags("histograms").items() if "scores_of_nodule" in names} >= VALIDATED
    assert tags("images") == {f"0.0.1-fold{fold}": {"test/errors"} for fold in (0, 1)}
    column = {"metric": {"group": "validation", "tag": "epoch/auc"}}
    asked = {"startIndex": 0, "sliceSize": 10, "colParams": [column], "allowedStatuses": ["STATUS_SUCCESS"]}
    groups = requests.post(f"{tensorboard}/data/plugin/hparams/session_groups", json=asked, timeout=30).json()
    rows = {row["sessions"][0]["name"]: row for row in groups["sessionGroups"]}
    assert set(rows) == {"0.0.1-fold0", "0.0.1-fold1"}
    assert rows["0.0.1-fold0"]["hparams"]["num_epochs"] == 1
    assert 0 <= rows["0.0.1-fold0"]["metricValues"][0]["value"] <= 1


def test_mlflow_has_curves_data_sets_figures_and_a_model_with_signature_and_card(mlflow, run_id):
    client = MlflowClient(mlflow)
    run = client.get_run(run_id)
    assert {"training/loss", "validation/auc", "training_batch/loss", "test/auc"} <= set(run.data.metrics)
    roles = [(each.tags[0].value, json.loads(each.dataset.profile)["folds"]) for each in run.inputs.dataset_inputs]
    assert sorted(roles) == [("test", [0]), ("training", [2, 3]), ("validation", [1])]
    files = {it.path for it in client.list_artifacts(run_id, "test")}
    assert files == {"test/report.csv", "test/roc_and_pr.png", "test/errors.png"}
    (version,) = client.search_model_versions(f"run_id = '{run_id}'")
    assert version.description.startswith("# Model card: nodule_classifier 0.0.1-fold0")
    signature = Model.load(version.source.removeprefix("file://")).signature
    assert [len(schema.inputs) for schema in (signature.inputs, signature.outputs)] == [1, 1]
    assert "Research use only" in client.get_registered_model(NODULE_CLASSIFIER).description


def test_their_pages_show_it_in_a_browser(mlflow, tensorboard, run_id, evaluated_source, tmp_path):
    from playwright.sync_api import sync_playwright

    experiment = MlflowClient(mlflow).get_run(run_id).info.experiment_id
    run = ("experiments", experiment, "runs", run_id)
    pages = {
        "mlflow_runs": (mlflow_page(mlflow, "experiments", experiment, "runs"), ["2 matching runs", "0\\.0\\.1-fold1"]),
        "mlflow_run": (mlflow_page(mlflow, *run), ["cutouts \\(", "Research use only"]),
        "mlflow_artifact": (mlflow_page(mlflow, *run, "artifacts", "test", "roc_and_pr.png"), ["errors\\.png"]),
        "mlflow_model": (
            mlflow_page(mlflow, "models", NODULE_CLASSIFIER, "versions", "1"),
            ["Model card: nodule_classifier", "Inputs \\(1\\)", "Outputs \\(1\\)"],
        ),
        "tensorboard_curves": (
            tensorboard_page(tensorboard, "0.0.1-fold0"),
            ["epoch/auc", "0\\.0\\.1-fold0/validation"],
        ),
        "tensorboard_pr_curves": (f"{tensorboard}/#pr_curves", ["precision_recall", "fold0/validation is at"]),
        "tensorboard_histograms": (f"{tensorboard}/#histograms", ["^scores_of_nodule$", "fold0/validation"]),
        "tensorboard_errors": (f"{tensorboard}/#images", ["test/errors"]),
    }
    shown = {
        "mlflow_artifact": "img[alt*='roc_and_pr'], img[src^='blob:'], img[src*='roc_and_pr']",
        "tensorboard_errors": "tf-image-loader img",
    }
    with sync_playwright() as playwright, opened_browser(playwright, "chromium", tmp_path) as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(300_000)
        page.add_init_script(QUIET)
        for name, (address, texts) in pages.items():
            page.goto("about:blank")
            page.goto(address)
            for text in texts:
                page.get_by_text(re.compile(text)).first.wait_for()
            if name in shown:
                picture = page.locator(shown[name]).first
                wait_for(
                    lambda picture=picture: picture.evaluate("it => it.naturalWidth") > 100,
                    limit_seconds=300,
                    what=f"The picture of {name}",
                )
            keep_picture(page, name, tmp_path)
