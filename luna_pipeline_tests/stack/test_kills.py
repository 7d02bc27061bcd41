"""Processes of the stack are killed while it works: it ends done or failed with a reason, and the next run finishes.

`LUNA_TEST_KILLS` says how many random kills there are; `make test-kills` takes 20.
"""

import os
import random
import time
from pathlib import Path

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import SQLAlchemyError

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.storage.cache import LocalCopies
from luna_pipeline.core.storage.files import AnyPath, content_of, listing, remove
from luna_pipeline.core.storage.s3 import remote_path
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.runs.nested import MAX_RETRIES_TAG, PARENT_TAG
from luna_pipeline_tests.stack.as_processes import StackOfProcesses, until
from luna_pipeline_tests.stack.asking import attempts, has_ended, launch, reasons
from luna_pipeline_tests.stack.worked import demo_config

pytestmark = pytest.mark.slow

NUM_KILLS = int(os.environ.get("LUNA_TEST_KILLS", "3"))
DATABASE_IS_DOWN = (DagsterPostgresException, SQLAlchemyError)
KILLED = ("postgres", "store", "mlflow", "code", "webserver", "daemon", "serve", "tensorboard", "run worker")


def run_workers(stack: StackOfProcesses) -> list[psutil.Process]:
    """Processes in which runs are executed: the code location's own children that Python spawned."""
    children = psutil.Process(stack.services["code"].process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def status_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """The newest attempt's status; unknown while the database is down."""
    try:
        return attempts(instance, run_id)[-1].status.value
    except DATABASE_IS_DOWN:
        return "UNKNOWN"


def ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    try:
        return has_ended(instance, run_id)
    except DATABASE_IS_DOWN:
        return False


def unfinished(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    return [run for run in instance.get_runs() if not run.is_finished]


def last_checkpoints(home: AnyPath) -> set[str]:
    """Checkpoints of the newest epochs, of all trainings."""
    return {name for name in listing(home / "checkpoints") if name.endswith("/last.pt")}


def assert_whole(stack: StackOfProcesses, tmp_path: Path) -> None:
    """Every object under a final name can be read whole."""
    home = remote_path("s3://luna/home")
    store = CutoutStore(home / "cutouts", copies=LocalCopies(tmp_path / "copies"))
    for uid in store.uids():
        assert store.check(uid) is None
    for name in listing(home / "checkpoints"):
        if name.endswith(".pt"):
            load_checkpoint(home / "checkpoints" / name)
    for name in listing(home / "tables"):
        if name.endswith(".parquet"):
            assert len(pd.read_parquet(content_of(home / "tables" / name)).columns)


# Also for the start of the stack, where this file is tested alone.
@pytest.mark.timeout(1200)
def test_lost_worker_and_lost_code_location_are_noticed_and_the_demo_is_done(stack, instance, tmp_path):
    home = remote_path("s3://luna/home")
    for name in listing(home / "cutouts"):
        remove(home / "cutouts" / name)
    before = last_checkpoints(home)
    run_id = launch(stack.address("webserver"), "demo", config=demo_config(epochs=4))
    cutting = dg.RunsFilter(job_name="cut", statuses=[dg.DagsterRunStatus.STARTED])
    until(lambda: instance.get_runs(cutting), limit_seconds=120, what="Cutting", stack=stack)
    worker = run_workers(stack)[0]
    helpers = worker.children(recursive=True)
    worker.kill()
    # Nobody goes on writing for it.
    assert psutil.wait_procs([worker, *helpers], timeout=20)[1] == []
    until(lambda: len(attempts(instance, run_id)) == 2, limit_seconds=90, what="The first retry", stack=stack)
    training = dg.RunsFilter(job_name="train_nodule_classifier", statuses=[dg.DagsterRunStatus.STARTED])
    until(lambda: instance.get_runs(training), limit_seconds=120, what="Training", stack=stack)
    until(lambda: last_checkpoints(home) - before, limit_seconds=120, what="The first epoch", stack=stack)
    stack.services["code"].kill()
    until(lambda: has_ended(instance, run_id), limit_seconds=400, what="The demo's end", stack=stack)

    first, second, third = attempts(instance, run_id)
    assert [run.status.value for run in (first, second, third)] == ["FAILURE", "FAILURE", "SUCCESS"]
    assert "SIGKILL" in " ".join(str(entry.message) for entry in instance.all_logs(first.run_id))
    assert "no sign of it" in " ".join(reasons(instance, second.run_id))
    # What they held is ended as well, and was not tried again by itself.
    until(lambda: not unfinished(instance), limit_seconds=60, what="The end of runs inside", stack=stack)
    inner = [
        run for run in instance.get_runs() if run.tags.get(PARENT_TAG) in {first.run_id, second.run_id, third.run_id}
    ]
    assert all(run.tags[MAX_RETRIES_TAG] == "0" for run in inner)
    assert all("dagster/retry_number" not in run.tags for run in inner)
    assert {run.status.value for run in inner} == {"SUCCESS", "FAILURE"}
    # The cutouts that were whole were adopted, training went on from its checkpoint.
    assert sum(run.job_name == "train_nodule_classifier" for run in inner) == 2
    assert_whole(stack, tmp_path)
    client = mlflow.MlflowClient(stack.address("mlflow"))
    experiment = client.get_experiment_by_name("luna_pipeline")
    # All attempts are one run of MLflow's, which ended well.
    of_it = client.search_runs([experiment.experiment_id], filter_string=f"tags.dagster_run_id = '{run_id}'")
    assert {run.info.status for run in of_it} == {"FINISHED"}


def test_random_kills_end_done_or_failed_with_a_reason_and_the_next_run_finishes(stack, instance, tmp_path):
    seed = int(os.environ.get("LUNA_TEST_SEED", "0"))
    chance = random.Random(seed)
    kills: list[str] = []
    outcomes: list[str] = []
    while len(kills) < NUM_KILLS:
        stack.wait()
        run_id = launch(stack.address("webserver"), "demo", config=demo_config(epochs=5 + len(outcomes)))
        while not ended(instance, run_id):
            time.sleep(chance.uniform(1, 10))
            # The rest of the time is waiting until a loss is noticed.
            if len(kills) < NUM_KILLS and status_of(instance, run_id) in {"STARTED", "STARTING", "UNKNOWN"}:
                kills.append(_kill(stack, chance.choice(KILLED)))
        stack.wait()
        last = attempts(instance, run_id)[-1]
        outcomes.append(f"{last.status.value} after {len(attempts(instance, run_id))} attempts")
        if last.status == dg.DagsterRunStatus.FAILURE:
            assert all(reasons(instance, run.run_id) for run in attempts(instance, run_id))
        # One that was made, but had not begun, has the time that dagster.yaml gives a run to start.
        until(lambda: not unfinished(instance), limit_seconds=240, what="The end of runs inside", stack=stack)
        assert_whole(stack, tmp_path)
    print(f"seed {seed}: {len(kills)} kills ({', '.join(kills)}): {'; '.join(outcomes)}")
    assert run_workers(stack) == []
    run_id = launch(stack.address("webserver"), "demo", config=demo_config(epochs=3))
    until(lambda: has_ended(instance, run_id), limit_seconds=300, what="The next demo's end", stack=stack)
    assert [run.status.value for run in attempts(instance, run_id)] == ["SUCCESS"]
    assert_whole(stack, tmp_path)
    made = instance.get_latest_materialization_event(dg.AssetKey("nodule_report"))
    assert instance.get_run_by_id(made.run_id).tags[PARENT_TAG] == run_id
    scores = pd.read_parquet(content_of(remote_path("s3://luna/home/tables/nodule_report.parquet")))
    assert np.isfinite(scores.select_dtypes("number").to_numpy()).any()


def _kill(stack: StackOfProcesses, name: str) -> str:
    if name == "run worker":
        for worker in run_workers(stack)[:1]:
            worker.kill()
    else:
        stack.services[name].kill()
    return name
