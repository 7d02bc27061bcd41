"""A backup made while the stack works, restored into a new and empty one; and what is refused.

The script is the one that `make backup` and `make restore` run; only Compose's four commands are others here.
"""

import contextlib
import hashlib
import io
import json
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import backup
import dagster as dg
import pandas as pd
import pytest

from luna_pipeline.core.storage.files import read_bytes
from luna_pipeline.core.storage.s3 import remote_path
from luna_pipeline_tests.processes import REPOSITORY
from luna_pipeline_tests.records import LEFT_OUT_COLUMNS
from luna_pipeline_tests.s3_server import forget_connections
from luna_pipeline_tests.stack.as_processes import BIN, StackOfProcesses, composed, until
from luna_pipeline_tests.stack.asking import attempts, has_ended, instance_of, launch, reasons
from luna_pipeline_tests.stack.backing_up import StackProcesses, new_stack, run, secrets_of, start
from luna_pipeline_tests.stack.worked import artifact_of, input_of, job_of, what_is_there

# What the training writes that is backed up in its midst.
OF_THE_TRAINING = {"cutout_index", "malignancy_classifier"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_is_backed_up_is_there_again_in_a_new_stack_and_work_goes_on(worked, tmp_path):
    stack = new_stack(tmp_path / "new")
    assert not set(secrets_of(stack)) & set(secrets_of(worked.stack)), "no password of before is needed"
    # The CTs are the user's, and in no backup.
    shutil.rmtree(stack.folder / "luna/data")
    shutil.copytree(worked.stack.folder / "luna/data", stack.folder / "luna/data")
    try:
        began = time.monotonic()
        assert run(stack, "restore", str(worked.backup)) == 0
        print(f"restore: {time.monotonic() - began:.1f} s")
        assert run(stack, "restore", str(worked.backup)) == 1, "it is not empty now"
        assert run(stack, "restore", str(worked.backup), "--replace") == 0
        again = worked.training_id
        status = backup.ask(StackProcesses(stack), "dagster", f"SELECT status FROM runs WHERE run_id = '{again}'")
        assert status == "STARTED"
        start(stack, "prepare", "mlflow", "code", "webserver", "daemon", "serve")
        stack._watcher.start()
        stack.wait()
        started = time.monotonic()
        assert run(stack, "restore", str(worked.backup), "--replace") == 1, "it works now"

        there = what_is_there(stack)
        for kind in ("mlflow", "models", "key"):
            assert there[kind] == worked.there[kind], kind
        for kind in ("runs", "assets"):
            changed = dict(worked.there[kind].items() - there[kind].items())
            assert set(changed) <= OF_THE_TRAINING, kind
        _assert_equal_but_for_the_run_in_progress(there["objects"], worked.there["objects"])
        # The token of before is right, and the job is there with its CT: a worker of the new stack has taken it up.
        assert stack.tokens == []
        token = worked.stack.tokens[0]
        until(
            lambda: job_of(stack, token, worked.job_id) == worked.there["job"],
            limit_seconds=120,
            what="The job of before, which waits again",
            stack=stack,
        )
        assert input_of(stack, worked.job_id) == worked.ct
        assert artifact_of(stack, tmp_path / "downloaded") == worked.files
        with instance_of(stack.environment()) as instance:
            forget_connections()
            until(lambda: len(attempts(instance, again)) == 2, limit_seconds=300, what="A retry", stack=stack)
            print(f"the run of before was tried again {time.monotonic() - started:.0f} s after the start")
            assert "no sign of it" in " ".join(reasons(instance, again))
            until(lambda: has_ended(instance, again), limit_seconds=600, what="Training", stack=stack)
            assert attempts(instance, again)[-1].status == dg.DagsterRunStatus.SUCCESS
            _assert_evaluates_to_the_same(stack, instance, worked.there["objects"])
    finally:
        forget_connections()
        stack.down()


def _assert_equal_but_for_the_run_in_progress(now: dict[str, bytes], then: dict[str, bytes]) -> None:
    changed = {name for name in set(now) | set(then) if now.get(name) != then.get(name)}
    assert {name.split("/")[1].removesuffix(".parquet") for name in changed} <= OF_THE_TRAINING
    assert {name.split("/")[0] for name in now} >= {"tables", "cutouts", "checkpoints"}


def _assert_evaluates_to_the_same(
    stack: StackOfProcesses, instance: dg.DagsterInstance, then: dict[str, bytes]
) -> None:
    run_id = launch(stack.address("webserver"), "evaluate")
    until(lambda: has_ended(instance, run_id), limit_seconds=600, what="Evaluation", stack=stack)
    assert attempts(instance, run_id)[-1].status == dg.DagsterRunStatus.SUCCESS
    home = remote_path("s3://luna/home")
    names = [name for name in then if name.startswith("tables/nodule_") and name.endswith(".parquet")]
    assert len(names) >= 5
    for name in names:
        tables = [pd.read_parquet(io.BytesIO(content)) for content in (then[name], read_bytes(home / name))]
        kept = [table.drop(columns=[column for column in table if column in LEFT_OUT_COLUMNS]) for table in tables]
        pd.testing.assert_frame_equal(*kept, obj=name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_backup_is_closed_to_others_and_says_what_it_is(worked):
    assert stat.S_IMODE(worked.backup.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in worked.backup.iterdir()} == {0o600}
    manifest = json.loads((worked.backup / "manifest.json").read_text())
    assert set(manifest["versions"]) == {"image", "luna-pipeline", "dagster", "mlflow", "postgresql"}
    assert all(manifest["schemas"].values())
    assert {path.name for path in worked.backup.iterdir()} == {*manifest["files"], "manifest.json"}
    assert not any(secret in (worked.backup / "manifest.json").read_text() for secret in secrets_of(worked.stack))


def _whole(folder: Path) -> Path:
    """A small backup, as its manifest says it."""
    folder.mkdir()
    files = {}
    for name in ("dagster.dump", "mlflow.dump", "jobs.dump", "bucket_luna.tar", "bucket_mlflow.tar", "local.tar"):
        content = name.encode() * 100
        (folder / name).write_bytes(content)
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"format": 2, "time": "2025-01-01T000000Z", "versions": {}, "schemas": {}, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


class Nothing:
    """A stack of which nothing may be asked."""


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "mlflow.dump").unlink(), "got no file ("),
        (lambda folder: (folder / "local.tar").write_bytes(b"short"), "got 5 bytes"),
        (lambda folder: (folder / "bucket_luna.tar").write_bytes(b"x" * 1500), "got 67ba149e8141"),
        (lambda folder: (folder / "manifest.json").unlink(), "got FileNotFoundError"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 1'), "got JSONDecodeError"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 3, "files": {}}'), "got 3"),
    ],
)
def test_damaged_backup_is_refused_in_one_line_and_nothing_is_touched(tmp_path, capsys, damage, reason):
    folder = _whole(tmp_path / "backup")
    assert backup.main(["check", str(folder)], Nothing()) == 0
    damage(folder)
    for command in ("check", "restore"):
        capsys.readouterr()
        assert backup.main([command, str(folder)], Nothing()) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line
        assert line.endswith(".")


class Talking(Nothing):
    """Services whose commands are `sh -c`: all say something, the named one fails."""

    def __init__(self, failing: str = "", running: Sequence[str] = ("postgres", "store")) -> None:
        self.failing = failing
        self._running = set(running)

    def inside(self, _service: str, *words: str) -> list[str]:
        said = " ".join(words)
        if "VERSIONS" in said or "importlib" in said:
            return ["echo", "{}"]
        return ["sh", "-c", "echo half; exit 3"] if self.failing and self.failing in said else ["echo", "whole"]

    beside = inside

    def running(self) -> set[str]:
        return self._running

    def image(self) -> str:
        return "luna-pipeline:test"


def test_backup_that_fails_midway_is_not_there(tmp_path, capsys):
    root = tmp_path / "backups"
    assert backup.main(["--backups", str(root), "backup"], Talking(failing="save luna")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("A command must end with 0, got 3 (sh -c")
    assert [path.name for path in root.iterdir()] == [".lock"]
    (root / "2025-01-01T000000Z.unfinished").mkdir()
    assert backup.main(["--backups", str(root), "backup"], Talking()) == 0
    (made,) = [path for path in root.iterdir() if path.is_dir()]
    assert backup.main(["check", str(made)]) == 0
    with backup._alone(root):
        assert backup.main(["--backups", str(root), "backup"], Talking()) == 1
    assert "got another at work" in capsys.readouterr().err


def test_backup_needs_database_and_store(tmp_path, capsys):
    assert backup.main(["--backups", str(tmp_path), "backup"], Talking(running=["postgres", "code"])) == 1
    assert "got none of store" in capsys.readouterr().err


def test_restore_beside_others_at_work_is_refused(tmp_path, capsys):
    folder = _whole(tmp_path / "backup")
    stack = Talking(running=["postgres", "store", "code", "mlflow"])
    assert backup.main(["restore", str(folder), "--replace"], stack) == 1
    assert "got code, mlflow at work" in capsys.readouterr().err


def test_image_is_the_compose_files(tmp_path):
    composed(tmp_path)
    command = [str(BIN / "docker-compose"), "--env-file", str(tmp_path / "env"), "-f", "docker-compose.yml"]
    with contextlib.chdir(REPOSITORY):
        assert backup.Compose(command).image().startswith("luna-pipeline:")


def test_no_command_holds_a_password():
    stack = backup.Compose(["docker", "compose"])
    for part in backup.parts(stack):
        for command in (part.save, part.load):
            passwords = [word for word in command if "PASSWORD" in word]
            assert all('PGPASSWORD="$' in word for word in passwords), command
