"""A stack that did the demo and was backed up while it trained: all tests of running services begin with it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import requests

from luna_pipeline.core.storage.files import listing, read_bytes
from luna_pipeline.core.storage.s3 import remote_path
from luna_pipeline_tests.records import LEFT_OUT_METRICS
from luna_pipeline_tests.s3_server import forget_connections
from luna_pipeline_tests.serving.services import phantom_ct
from luna_pipeline_tests.stack.as_processes import StackOfProcesses, stack_of_processes, until
from luna_pipeline_tests.stack.asking import TERMINATE, ask, has_ended, instance_of, launch
from luna_pipeline_tests.stack.backing_up import run

PHANTOM = {"num_series": 8, "num_subsets": 4, "size_irc": [40, 80, 80]}


def demo_config(epochs: int) -> dict:
    return {"ops": {"make_phantom_data": {"config": {**PHANTOM, "epochs": epochs}}}}


DEMO = json.dumps(demo_config(epochs=2))


@dataclass(frozen=True)
class Worked:
    """What a stack held after the demo, and a backup of it.

    Attributes:
        stack: The running stack.
        there: What users see in it.
        metrics: All values of its runs in MLflow.
        files: Those of the newest registered model.
        job_id: Of a job of the service that waited for models.
        ct: Contents of the files that the job was sent.
        training_id: Of a run that was training during the backup.
        backup: Folder of the backup.
    """

    stack: StackOfProcesses
    there: dict
    metrics: dict
    files: dict[str, bytes]
    job_id: str
    ct: list[bytes]
    training_id: str
    backup: Path


@contextlib.contextmanager
def stack_that_worked(folder: Path) -> Iterator[Worked]:
    """Start a stack, run the demo by the queue, send a CT, and back it up while it trains something else."""
    config = folder / "demo.yaml"
    with stack_of_processes(folder, without=()) as stack:
        config.write_text(DEMO)
        done = by_the_queue(stack, "demo", str(config))
        assert done.returncode == 0, done.stdout + done.stderr
        job_id = send_ct(stack, folder)
        there = what_is_there(stack) | {"job": job_of(stack, stack.tokens[0], job_id)}
        metrics, files = metrics_of(stack.address("mlflow")), artifact_of(stack, folder / "downloaded")
        training_id = _back_up_while_it_trains(stack)
        (made,) = (folder / "backups").glob("2*")
        ct = input_of(stack, job_id)
        place = f"{stack.address('serve')}/v1/diagnoses/{job_id}"
        requests.delete(place, headers={"Authorization": f"Bearer {stack.tokens[0]}"}, timeout=60).raise_for_status()
        yield Worked(stack, there, metrics, files, job_id, ct, training_id, made)


def _back_up_while_it_trains(stack: StackOfProcesses) -> str:
    """Return the id of the run that was training; it is ended."""
    address = stack.address("webserver")
    with instance_of(stack.environment()) as instance:
        forget_connections()
        config = {"ops": {"malignancy_classifier": {"config": {"recipe": "demo_malignancy", "epochs": 4}}}}
        training_id = launch(address, "train_malignancy_classifier", config=config)
        last = remote_path("s3://luna/home/checkpoints/malignancy_classifier/0.0.1-fold0/last.pt")
        until(last.exists, limit_seconds=300, what="The first epoch", stack=stack)
        assert run(stack, "--backups", str(stack.folder / "backups"), "backup") == 0
        ask(address, TERMINATE, r=training_id)
        until(lambda: has_ended(instance, training_id), limit_seconds=120, what="The training's end", stack=stack)
    forget_connections()
    return training_id


def by_the_queue(stack: StackOfProcesses, job: str, *config: str) -> subprocess.CompletedProcess[str]:
    """What `make demo-stack` calls inside the code location's container."""
    command = [sys.executable, str(stack.folder / "stack/launch.py"), job, *config]
    return subprocess.run(command, env=stack.environment(), capture_output=True, text=True, check=False, timeout=500)


def what_is_there(stack: StackOfProcesses) -> dict:
    """What users see in a stack: runs, assets, MLflow's runs, models and files, objects."""
    with instance_of(stack.environment()) as instance:
        forget_connections()
        client = mlflow.MlflowClient(stack.address("mlflow"))
        (experiment,) = [e for e in client.search_experiments() if e.name == "luna_pipeline"]
        runs = client.search_runs([experiment.experiment_id])
        home = remote_path("s3://luna/home")
        found = {
            "runs": {run.run_id: run.status for run in instance.get_runs() if run.is_finished},
            "assets": {
                key.to_user_string(): event.run_id
                for key in instance.all_asset_keys()
                if (event := instance.get_latest_materialization_event(key))
            },
            "mlflow": {run.info.run_id: (run.data.metrics, run.data.params) for run in runs if run.info.end_time},
            "models": {(v.name, v.version, v.run_id, *v.aliases) for v in client.search_model_versions()},
            "objects": {name: read_bytes(home / name) for name in listing(home)},
            "key": (stack.folder / "luna/cache/local/patient_key").read_bytes(),
        }
    forget_connections()
    return found


def artifact_of(stack: StackOfProcesses, folder: Path) -> dict[str, bytes]:
    """The files of the newest registered model, as a user downloads them."""
    client = mlflow.MlflowClient(stack.address("mlflow"))
    newest = max(client.search_model_versions(), key=lambda version: int(version.version))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(stack.address("mlflow"))
    try:
        place = mlflow.artifacts.download_artifacts(f"models:/{newest.name}/{newest.version}", dst_path=str(folder))
    finally:
        mlflow.set_tracking_uri(before)
    return {path.name: path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}


def send_ct(stack: StackOfProcesses, folder: Path) -> str:
    """Send a CT to the service; without a segmenter its job waits for one. Return the job's id."""
    allowed = {"Authorization": f"Bearer {stack.tokens[0]}"}
    files = [("files", (path.name, path.read_bytes())) for path in phantom_ct(folder, 5).iterdir()]
    answer = requests.post(f"{stack.address('serve')}/v1/diagnoses", files=files, headers=allowed, timeout=60)
    job_id = answer.json()["id"]
    until(
        lambda: job_of(stack, stack.tokens[0], job_id)["stage"] == "models",
        limit_seconds=120,
        what="A job that waits for models",
        stack=stack,
    )
    return job_id


def job_of(stack: StackOfProcesses, token: str, job_id: str) -> dict:
    """What the service says of a job, without the time at which a worker took it up."""
    place = f"{stack.address('serve')}/v1/diagnoses/{job_id}"
    job = requests.get(place, headers={"Authorization": f"Bearer {token}"}, timeout=60).json()
    return {name: value for name, value in job.items() if name != "started_at"}


def input_of(stack: StackOfProcesses, job_id: str) -> list[bytes]:
    """Return the contents of the files that a job of the service was sent."""
    return sorted(path.read_bytes() for path in (stack.folder / "luna/service/jobs" / job_id / "input").iterdir())


def metrics_of(address: str) -> dict[str, list[tuple[str, int, str]]]:
    """All values of each run by its name, as text: a precision of nothing is no number, and equal to none."""
    client = mlflow.MlflowClient(address)
    left_out, found = tuple(LEFT_OUT_METRICS), {}
    for made in client.search_runs([client.get_experiment_by_name("luna_pipeline").experiment_id]):
        keys = [key for key in made.data.metrics if not key.startswith(left_out)]
        values = [metric for key in keys for metric in client.get_metric_history(made.info.run_id, key)]
        found[made.info.run_name] = sorted((metric.key, metric.step, repr(metric.value)) for metric in values)
    return found
