"""The stack of the compose file at work, as processes: same results as on local files, pools, and who may ask whom."""

import dataclasses
import os
import re
import shutil
from pathlib import Path

import dagster as dg
import health
import pandas as pd
import psutil
import pydicom
import pytest
import requests
import torch
from dagster._daemon import controller

from luna_pipeline.core.storage.files import AnyPath, content_of, listing, read_bytes
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline_tests.conftest import Folders
from luna_pipeline_tests.processes import REPOSITORY, session_of
from luna_pipeline_tests.records import LEFT_OUT_COLUMNS, TIME_OF_TRAINING
from luna_pipeline_tests.serving.dicom.pushing import push
from luna_pipeline_tests.serving.services import phantom_ct
from luna_pipeline_tests.stack.as_processes import until
from luna_pipeline_tests.stack.asking import TERMINATE, ask, attempts, has_ended, launch
from luna_pipeline_tests.stack.worked import DEMO, by_the_queue, metrics_of
from luna_pipeline_tests.test_interruptions import run_to_end

# Also for the start of the stack, where this file is tested alone.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RUN_IDS = ("mlflow_run_id", "mlflow_runs")
RUN_OF_A_CARD = re.compile(r"(?<=\| MLflow run \| )[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True)
class SameData(Folders):
    """An installation on local files that reads the CTs of the stack."""

    cts: Path = Path()

    @property
    def data(self) -> Path:
        return self.cts


def test_demo_by_the_queue_gives_what_local_files_give(stack, worked, tmp_path):
    local = SameData(tmp_path, num_series=8, cts=stack.folder / "luna/data")
    local.dagster.mkdir()
    (local.dagster / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    local.home.mkdir()
    shutil.copy(stack.folder / "luna/cache/local/patient_key", local.home)
    assert run_to_end(local, "demo", "-c", local.write_config(DEMO), limit_seconds=400) == 0
    one, other = tmp_path / "of_the_stack", local.home
    for name, content in worked.there["objects"].items():
        (one / name).parent.mkdir(parents=True, exist_ok=True)
        (one / name).write_bytes(content)
    for kind in (".parquet", ".npz", ".pt"):
        assert _names(other, kind) == _names(one, kind) != []
    for name in _names(other, ".npz"):
        assert read_bytes(one / name) == read_bytes(other / name), name
    for name in _names(other, ".parquet"):
        tables = [pd.read_parquet(content_of(home / name)) for home in (one, other)]
        kept = [table.drop(columns=[c for c in table if c in {*LEFT_OUT_COLUMNS, *RUN_IDS}]) for table in tables]
        pd.testing.assert_frame_equal(*map(_of_any_run, kept), obj=name)
    for name in _names(other, ".pt"):
        checkpoints = [load_checkpoint(home / name) for home in (one, other)]
        states = [checkpoint.model_state for checkpoint in checkpoints]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[1]), name
    assert worked.metrics == metrics_of(f"sqlite:///{other}/mlflow.db")
    assert any(key == "validation/auc" for found in worked.metrics.values() for key, *_ in found)


def _of_any_run(table: pd.DataFrame) -> pd.DataFrame:
    """Model cards say how long training took, and in which run of MLflow's."""
    texts = table.select_dtypes(["object", "string"]).columns
    blank = {TIME_OF_TRAINING: "", RUN_OF_A_CARD: ""}
    return table.assign(**{name: table[name].astype(str).replace(blank, regex=True) for name in texts})


def _names(home: AnyPath, kind: str) -> list[str]:
    kept = ("tables/", "cutouts/", "checkpoints/")
    return sorted(name for name in listing(home) if name.startswith(kept) and name.endswith(kind))


def test_two_users_at_once_respect_the_pools(stack, instance):
    address = stack.address("webserver")
    config = {"nodule_classifier": {"config": {"recipe": "demo", "epochs": 5}}}
    by_hand = launch(address, "__ASSET_JOB", assets=("nodule_classifier",), partition="0", config={"ops": config})
    config["nodule_classifier"]["config"] |= {"folds": [1], "epochs": 2}
    by_job = launch(address, "train_nodule_classifier", config={"ops": config})
    catalogues = [launch(address, "__ASSET_JOB", assets=("ct_series",)) for _ in range(3)]
    every = [by_hand, by_job, *catalogues]
    until(lambda: all(has_ended(instance, run_id) for run_id in every), limit_seconds=400, what="All ends", stack=stack)
    for run_id in every:
        assert attempts(instance, run_id)[-1].status == dg.DagsterRunStatus.SUCCESS
    inside = instance.get_runs(dg.RunsFilter(tags={"luna/parent_run_id": by_job, "dagster/partition": "1"}))
    (inner,) = [run.run_id for run in inside if dg.AssetKey("nodule_classifier") in (run.asset_selection or ())]
    assert _most_at_once(instance, [by_hand, inner], "nodule_classifier") == 1
    assert _most_at_once(instance, catalogues, "ct_series") <= 2
    # The job's own step waited inside its run; a run that is one step waits in the queue.
    assert "blocked by limit for pool gpu" in " ".join(str(entry.message) for entry in instance.all_logs(inner))


def _most_at_once(instance: dg.DagsterInstance, run_ids: list[str], step: str) -> int:
    """How many of the runs were in the step at the same moment."""
    changes: list[tuple[float, int]] = []
    for run_id in run_ids:
        for kind, change in ((dg.DagsterEventType.STEP_START, 1), (dg.DagsterEventType.STEP_SUCCESS, -1)):
            entries = instance.all_logs(run_id, of_type={kind})
            changes += [(entry.timestamp, change) for entry in entries if entry.dagster_event.step_key == step]
    at_once = most = 0
    for _, change in sorted(changes):
        at_once += change
        most = max(most, at_once)
    assert len(changes) == 2 * len(run_ids)
    return most


def test_ending_a_run_inside_another_ends_the_one_that_was_asked_for(stack, instance):
    config = {"ops": {"nodule_classifier": {"config": {"recipe": "demo", "epochs": 400}}}}
    run_id = launch(stack.address("webserver"), "train_nodule_classifier", config=config)
    trains = dg.RunsFilter(tags={"luna/parent_run_id": run_id}, job_name="__ASSET_JOB", statuses=[_STARTED])
    inner = until(lambda: instance.get_runs(trains), limit_seconds=180, what="Training", stack=stack)[0]
    ask(stack.address("webserver"), TERMINATE, r=inner.run_id)
    until(lambda: has_ended(instance, run_id), limit_seconds=120, what="The end of both", stack=stack)
    for ended in (run_id, inner.run_id):
        assert instance.get_run_by_id(ended).status == dg.DagsterRunStatus.CANCELED
    assert len(attempts(instance, run_id)) == 1


_STARTED = dg.DagsterRunStatus.STARTED


def test_daemon_is_well_while_each_of_its_parts_gives_signs(stack, instance, monkeypatch):
    assert set(instance.get_required_daemon_types()) == health.DAEMONS
    tolerance = controller.DEFAULT_DAEMON_HEARTBEAT_TOLERANCE_SECONDS + controller.DEFAULT_HEARTBEAT_INTERVAL_SECONDS
    assert tolerance == health.TOLERANCE_SECONDS
    assert health.main("daemon") == 0
    with monkeypatch.context() as patch:
        patch.setattr(health, "DAEMONS", {*health.DAEMONS, "ANOTHER"})
        assert health.main("daemon") == 1
    # Signs of an hour ago.
    monkeypatch.setattr(health, "TOLERANCE_SECONDS", -3600)
    assert health.main("daemon") == 1


def test_mlflow_answers_only_its_hosts(stack):
    address = stack.address("mlflow")
    assert requests.get(address, timeout=30).status_code == 200
    assert requests.get(address, headers={"Host": "elsewhere.example"}, timeout=30).status_code == 403
    origin = {"Origin": "http://elsewhere.example"}
    asked = f"{address}/api/2.0/mlflow/experiments/search"
    assert requests.post(asked, json={"max_results": 1}, headers=origin, timeout=30).status_code == 403
    assert requests.post(asked, json={"max_results": 1}, timeout=30).status_code == 200


def test_the_service_takes_a_ct_with_a_token_alone_and_waits_for_its_models(stack, tmp_path):
    address, ct = f"{stack.address('serve')}/v1/diagnoses", phantom_ct(tmp_path, 5)
    assert requests.post(address, files=parts_of(ct), timeout=30).status_code == 401
    assert requests.get(address, headers={"Authorization": "Bearer luna_guessed"}, timeout=30).status_code == 401
    allowed = {"Authorization": f"Bearer {stack.tokens[0]}"}
    answer = requests.post(address, files=parts_of(ct), headers=allowed, timeout=30)
    assert answer.status_code == 202, answer.text
    place = f"{stack.address('serve')}{answer.headers['Location']}"

    def waits() -> dict | None:
        job = requests.get(place, headers=allowed, timeout=30).json()
        return job if job["stage"] == "models" else None

    job = until(waits, limit_seconds=120, what="A job that waits for models", stack=stack)
    assert (job["state"], job["attempts"]) == ("running", 0)
    models = requests.get(f"{stack.address('serve')}/v1/models", headers=allowed, timeout=60)
    assert models.status_code == 503, models.text
    assert "got none that can be loaded" in models.json()["detail"]
    assert requests.delete(place, headers=allowed, timeout=30).status_code == 204
    assert requests.get(stack.address("serve"), timeout=30).status_code == 200, "the empty page needs no token"


def test_a_series_that_is_pushed_to_the_receiver_is_a_job_of_the_service(stack, tmp_path):
    ct = phantom_ct(tmp_path, 6, is_dicom=True)
    images = [pydicom.dcmread(path) for path in ct.iterdir()]
    assert set(push(stack.ports["receive"], images)) == {0x0000}
    place = f"{stack.address('serve')}/v1/diagnoses"
    allowed = {"Authorization": f"Bearer {stack.tokens[0]}"}

    def pushed() -> list[dict]:
        jobs = requests.get(place, headers=allowed, timeout=30).json()
        return [job for job in jobs if job["origin"] == "dicom"]

    (job,) = until(pushed, limit_seconds=60, what="The job of the pushed series", stack=stack)
    assert requests.delete(f"{place}/{job['id']}", headers=allowed, timeout=30).status_code == 204


def parts_of(folder: Path) -> list[tuple[str, tuple[str, bytes]]]:
    """The files of a CT as parts of an upload."""
    return [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]


def test_nothing_listens_beyond_loopback(stack):
    places = {}
    for name, service in stack.services.items():
        for process in session_of(service.process.pid):
            for connection in process.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    places.setdefault(name, set()).add(connection.laddr.ip)
    assert set(places) == {"postgres", "store", "mlflow", "code", "webserver", "serve", "receive", "tensorboard"}
    assert set().union(*places.values()) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_store_and_databases_refuse_strangers(stack, instance):
    import psycopg2
    import s3fs

    for key in ({"anon": True}, {"key": "luna", "secret": "guessed"}):
        files = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, **key)
        with pytest.raises(PermissionError):
            files.ls("luna")
    port, password = stack.ports["postgres"], os.environ["DAGSTER_POSTGRES_PASSWORD"]
    place = {"host": "127.0.0.1", "port": port, "user": "dagster"}
    psycopg2.connect(**place, dbname="dagster", password=password).close()
    for wrong in (
        {"dbname": "dagster", "password": "guessed"},
        {"dbname": "mlflow", "password": password},
        {"dbname": "jobs", "password": password},
        {"dbname": "dagster", "user": "jobs", "password": stack.environment("serve")["PGPASSWORD"]},
    ):
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(**(place | wrong))


def test_unknown_job_is_refused_in_one_line(stack):
    done = by_the_queue(stack, "no_such_job")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "no_such_job" in done.stderr


def test_no_secret_stands_in_a_log(stack):
    secrets = [line.split("=")[1] for line in (stack.folder / "env").read_text().splitlines() if "=" in line]
    assert len(secrets) == 6
    for service in stack.services.values():
        text = service.log.read_text()
        assert not any(secret in text for secret in (*secrets, *stack.tokens)), service.name
    # Of the service's tokens only digests are kept.
    assert stack.tokens[0] not in (stack.folder / "luna/service/tokens.json").read_text()
