"""Training in several processes of this machine, started by torchrun.

Each process runs ``python -m luna_pipeline.launchers.training.torchrun REQUEST``, where REQUEST is a JSON file of the
`TrainingRequest`. The first process writes its result next to that file.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import psutil

from luna_pipeline.core.config.json_files import json_object
from luna_pipeline.core.config.plain import from_plain
from luna_pipeline.core.malloc import keep_freed_memory
from luna_pipeline.core.storage.files import read_bytes
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.extensions import load_extensions
from luna_pipeline.launchers.training.run import TrainedClassifier
from luna_pipeline.launchers.training.train import TrainingRequest, train
from luna_pipeline.settings import Settings

MAX_RESTARTS = 3
SECONDS_TO_END = 60.0
# Lines of the processes start with their number; torchrun's own lines name no reason and are dropped.
PROCESS_LINE = re.compile(r"^\[default\d+\]:(.*)")
RESULT_FIELDS = ("version", "seconds", "index_digest", "model_uri", "mlflow_run_id")


def train_together(settings: Settings, request: TrainingRequest, *, num_processes: int) -> TrainedClassifier:
    """Train in several processes of this machine; if one dies, torchrun restarts all from the last checkpoint.

    Args:
        settings: Paths of the installation.
        request: What to train. Its listeners are not called: they live in this process.
        num_processes: Number of processes.

    Raises:
        RuntimeError: If they fail; the message contains their last line.
    """
    show = request.options.show_progress
    report = show if callable(show) else (lambda line: print(line, file=sys.stderr)) if show else (lambda _line: None)
    with tempfile.TemporaryDirectory(prefix="luna-torchrun-") as folder:
        file = Path(folder) / "request.json"
        file.write_text(request_as_json(request), encoding="utf-8")
        _run(_command(file, num_processes), environment=_environment(settings, num_processes), report=report)
        result = json.loads(_result_file(file).read_text(encoding="utf-8"))
    name, version = request.config.name, result["version"]
    path = settings.checkpoints_dir / name / version / "best.pt"
    return TrainedClassifier(
        checkpoint=load_checkpoint(path),
        path=path,
        history=pd.DataFrame(result.pop("history")),
        tensorboard_dir=settings.local_home / "tensorboard" / name / version,
        **result,
    )


def request_as_json(request: TrainingRequest) -> str:
    """Return a request as JSON, without what exists in this process only: listeners, and a function for progress."""
    options = replace(request.options, show_progress=bool(request.options.show_progress), listeners=())
    return json.dumps(asdict(replace(request, options=options)))


def request_from_json(text: str, *, where: object = "request") -> TrainingRequest:
    """Return the request that ``request_as_json`` wrote; ``where`` names its file in messages.

    Raises:
        ValueError: If a field is missing or unknown, or a value is outside its range.
    """
    values = json_object(text.encode(), "A training request", where=where, advice="Start the training again.")
    return from_plain(TrainingRequest, values, "training request")


def main(file: Path) -> None:
    """Train as one of torchrun's processes, with the request in ``file``."""
    load_extensions()
    keep_freed_memory()
    request = request_from_json(read_bytes(file).decode(errors="replace"), where=file)
    # After a restart, continue from the last checkpoint in any case.
    is_restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    trained = train(Settings.from_environment(), replace(request, resume=request.resume or is_restarted))
    if os.environ["RANK"] == "0":
        result = {name: getattr(trained, name) for name in RESULT_FIELDS}
        result["history"] = trained.history.to_dict("records")
        _result_file(file).write_text(json.dumps(result), encoding="utf-8")
        print(f"Wrote {trained.path} ({request.config.name} {trained.version}).")


def _result_file(request: Path) -> Path:
    return request.with_name("result.json")


def _command(request: Path, num_processes: int) -> list[str]:
    options = f"--standalone --nproc-per-node={num_processes} --max-restarts={MAX_RESTARTS} --monitor-interval=0.5"
    logs = ["--tee=3", f"--log-dir={request.with_name('logs')}"]
    module = ["-m", "luna_pipeline.launchers.training.torchrun", str(request)]
    return [sys.executable, "-m", "torch.distributed.run", *options.split(), *logs, *module]


def _environment(settings: Settings, num_processes: int) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    return {
        # Without it restarted processes wait forever at the addresses of the dead ones.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "LUNA_DATA_DIR": str(settings.data_dir),
        "LUNA_HOME": str(settings.home),
        "LUNA_CACHE": str(settings.cache_dir),
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
    }


def _run(command: list[str], *, environment: dict[str, str], report: Callable[[str], None]) -> None:
    last_line = "no output"
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            for line in process.stdout or ():
                if match := PROCESS_LINE.match(line):
                    report(match[1].rstrip())
                    last_line = match[1].strip() or last_line
            status = process.wait()
        except BaseException:
            _terminate(process)
            raise
    if status != 0:
        msg = f"All processes must succeed, got exit code {status}: {last_line.rstrip('.')}."
        raise RuntimeError(f"{msg} Fix the cause and train again.")


def _terminate(process: "subprocess.Popen[str]") -> None:
    """Send SIGTERM to torchrun, so that its processes write a checkpoint; kill all of them after a minute."""
    # Each process has its own session: once torchrun is dead, they can no longer be found.
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


if __name__ == "__main__":
    # SIGTERM ends training as Ctrl-C does, after a checkpoint.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(1)
    except Exception as error:
        # torchrun's log ends with this line, which is the reason that ``train_together`` reports.
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
