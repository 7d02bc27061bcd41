"""Overhead of each way to distribute work: ``python -m benchmarks.bench_scaling``.

Runs, tasks, trials and processes do nothing here, so that only the overhead is measured. Each figure is measured in a
separate process, so that no measurement finds services of another one running.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine
from luna_pipeline.cluster.session import ray_session

NUM_TASKS, NUM_TRIALS, NUM_RUNS = 200, 8, 5
HERE = "benchmarks.bench_scaling"


def dagster_runs(folder: Path) -> dict[str, float]:
    """Return seconds of a run within this process, on SQLite: a job with one empty op."""
    import dagster as dg

    job = dg.GraphDefinition("idle", node_defs=[dg.op(name="nothing")(_nothing)]).to_job()
    with dg.DagsterInstance.local_temp(str(folder), overrides={"telemetry": {"enabled": False}}) as instance:
        seconds = [_timed(lambda: job.execute_in_process(instance=instance)) for _ in range(NUM_RUNS + 1)]
    return {"dagster_run_in_process": statistics.median(seconds[1:])}


def dagster_process(folder: Path) -> dict[str, float]:
    """Return seconds of a process that loads the definitions, as for each run of the daemon."""
    command = [sys.executable, "-c", "import luna_pipeline.definitions"]
    return {"dagster_process": statistics.median([_timed(partial(_run, command)) for _ in range(3)])}


def ray_tasks(folder: Path) -> dict[str, float]:
    """Return seconds of a Ray session on this machine, of its first task and of one of many; MB of its processes."""
    import ray

    began = time.perf_counter()
    with ray_session(num_cpus=2):
        started = time.perf_counter() - began
        task: Any = ray.remote(num_cpus=1)(_nothing)
        first = _timed(lambda: ray.get(task.remote()))
        many = _timed(lambda: ray.get([task.remote() for _ in range(NUM_TASKS)]))
        below = psutil.Process().children(recursive=True)
        memory = sum(process.memory_info().rss for process in below)
        before_end = time.perf_counter()
    return {
        "ray_start": started,
        "ray_first_task": first,
        "ray_task": many / NUM_TASKS,
        "ray_end": time.perf_counter() - before_end,
        "ray_idle_mb": memory / 1e6,
    }


def _nothing() -> None:
    """Do nothing."""


def ray_trials(folder: Path) -> dict[str, float]:
    """Return seconds until the end of a study's first trial, which loads torch, and of each later one."""
    from luna_pipeline.core.training.recipes import demo
    from luna_pipeline.tuning.ray.progress import StudyListener
    from luna_pipeline.tuning.ray.running import run_study
    from luna_pipeline.tuning.records import TrialRecords
    from luna_pipeline.tuning.resources import TrialResources
    from luna_pipeline.tuning.space import learning
    from luna_pipeline.tuning.study import StudyConfig

    study = StudyConfig(
        base=demo(), space=learning(), searcher="random", scheduler="none", num_trials=NUM_TRIALS, num_epochs=1
    )
    ends: list[float] = []
    records = TrialRecords(folder)
    resources = TrialResources(max_concurrent=1)
    with ray_session(num_cpus=2) as there:
        began = time.perf_counter()
        listener = StudyListener(
            records=records,
            num_epochs=1,
            num_trials=NUM_TRIALS,
            metric="auc",
            say=lambda line: ends.append(time.perf_counter()) if "ended: trial" in line else None,
        )
        run_study(study, _idle_trial, folder=folder, listener=listener, there=there, resources=resources)
    later = [after - before for before, after in itertools.pairwise(ends)]
    return {"ray_first_trial": ends[0] - began, "ray_trial": statistics.median(later)}


def _idle_trial(variant: Any, report: Callable[[dict[str, Any]], None]) -> None:
    """Import the modules of a trial, and report an epoch without training."""
    import luna_pipeline.tuning.trial  # noqa: F401

    report({"epoch": 1, "score": 0.5, "error": ""})


def torchrun(folder: Path) -> dict[str, float]:
    """Return seconds of two processes that connect and disconnect."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        HERE,
        "--joined",
    ]
    return {"torchrun_of_two": statistics.median([_timed(partial(_run, command)) for _ in range(3)])}


WAYS = {way.__name__: way for way in (dagster_runs, dagster_process, ray_tasks, ray_trials, torchrun)}


def measured() -> dict[str, float]:
    """Return all figures, each measured in a separate process."""
    found: dict[str, float] = {}
    for name in WAYS:
        done = subprocess.run(
            [sys.executable, "-m", HERE, "--only", name], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        found |= json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: list[str]) -> int:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(WAYS), help="one way, in this process")
    parser.add_argument("--joined", action="store_true", help="be one of torchrun's processes")
    options = parser.parse_args(arguments)
    if options.joined:
        from luna_pipeline.core.distributed import distributed_context

        with distributed_context():
            return 0
    with tempfile.TemporaryDirectory(prefix="luna-scaling-") as name:
        if options.only:
            print(json.dumps(WAYS[options.only](Path(name))))
            return 0
        found = {key: round(value, 4) for key, value in measured().items()}
        print(json.dumps({"machine": machine.facts(Path(name)), **found}, indent=1))
    return 0


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
