"""Several processes that train one classifier, started by torchrun and watched by whoever asked for them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.launchers.training.run import TrainedClassifier
from luna_pipeline.launchers.training.train import TrainingRequest
from luna_pipeline.settings import Settings

MAX_RESTARTS = 3
SECONDS_TO_END = 60.0
MAX_LINES = 20
# What a process says bears its number; torchrun's own lines, which name no reason, do not.
OWN_LINE = re.compile(r"^\[default\d+\]:(.*)")


def train_together(settings: Settings, request: TrainingRequest, *, num_processes: int) -> TrainedClassifier:
    """Train in several processes of this machine; one that dies is started again, with the others, by torchrun.

    Args:
        settings: Where everything lies.
        request: What is to be trained.
        num_processes: How many.

    Raises:
        RuntimeError: If they fail; what they said is in the message.
    """
    with tempfile.TemporaryDirectory(prefix="luna-torchrun-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(request.config.to_dict()), encoding="utf-8")
        command = [*_torchrun(num_processes, logs=folder / "logs"), *_arguments(request, folder)]
        _run(command, environment=_environment(settings, num_processes), report=_reporter(request))
        return _result(settings, json.loads((folder / "result.json").read_text(encoding="utf-8")))


def _torchrun(num_processes: int, *, logs: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(num_processes),
        "--max-restarts",
        str(MAX_RESTARTS),
        "--monitor-interval",
        "0.5",
        "--tee",
        "3",
        "--log-dir",
        str(logs),
        "-m",
        "luna_pipeline.cli",
    ]


def _arguments(request: TrainingRequest, folder: Path) -> list[str]:
    start = request.start
    command = "train_luna_classification" if start is None else "load_train_luna_classification"
    source = [] if start is None else [start.loader, str(start.name), str(start.version)]
    options: dict[str, Any] = {
        "--config": folder / "config.json",
        "--result": folder / "result.json",
        "--test-fold": request.test_fold,
        "--validation-fold": request.validation_fold,
        "--learn": None if request.head_only is None else "head" if request.head_only else "all",
        "--workers": request.options.num_workers,
        "--checkpoint-seconds": request.options.seconds_between_checkpoints,
    }
    flags = {
        "--no-mlflow": not request.uses_mlflow,
        "--no-resume": not request.resume,
        "--profile": request.options.is_profiled,
    }
    return [
        command,
        request.config.version,
        *source,
        *(f"--handler={name}" for name in request.options.handlers),
        *(f"{name}={value}" for name, value in options.items() if value is not None),
        *(name for name, is_set in flags.items() if is_set),
    ]


def _environment(settings: Settings, num_processes: int) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    return {
        # Without it processes that were started again look for the dead ones' addresses and wait for ever.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "LUNA_DATA_DIR": str(settings.data_dir),
        "LUNA_HOME": str(settings.home),
        "LUNA_CACHE": str(settings.cache_dir),
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
    }


def _reporter(request: TrainingRequest) -> Callable[[str], None]:
    show = request.options.show_progress
    if callable(show):
        return show
    return (lambda line: print(line, file=sys.stderr)) if show else (lambda _line: None)


def _run(command: list[str], *, environment: dict[str, str], report: Callable[[str], None]) -> None:
    said: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            for line in process.stdout or ():
                if own := OWN_LINE.match(line):
                    report(own[1].rstrip())
                    said = [*said, own[1].strip()][-MAX_LINES:]
            status = process.wait()
        except BaseException:
            _end(process)
            raise
    if status != 0:
        msg = f"All processes must end well, got exit code {status}: {_reason(said)}. Mend it and train again."
        raise RuntimeError(msg)


def _reason(said: list[str]) -> str:
    last = [line for line in said if line][-1:]
    return last[0].rstrip(".") if last else "nothing was said"


def _end(process: "subprocess.Popen[str]") -> None:
    """Ask torchrun to end its processes, which write a checkpoint first; insist after a minute."""
    # Each of them is in a session of its own: once torchrun is dead, nobody else would know them.
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _result(settings: Settings, written: dict[str, Any]) -> TrainedClassifier:
    import pandas as pd

    path = settings.checkpoints_dir / written["name"] / written["version"] / "best.pt"
    return TrainedClassifier(
        checkpoint=load_checkpoint(path),
        path=path,
        version=written["version"],
        history=pd.DataFrame(written["history"]),
        tensorboard_dir=settings.local_home / "tensorboard" / written["name"] / written["version"],
        seconds=written["seconds"],
        index_digest=written["index_digest"],
        model_uri=written["model_uri"],
        mlflow_run_id=written["mlflow_run_id"],
    )
