"""Load test of the service: ``python -m benchmarks.bench_serving --out FOLDER [--minutes 30]``.

A real client on loopback against `luna serve` with one worker and a queue of 4: 8 phantom CTs of 240 slices are
uploaded at once while 300 requests to ``/v1/classify`` are made, 16 at a time, and the champion is switched twice. Then
the throughput of ``/v1/classify`` is compared with that of the bare network, by turns. Last, the load is repeated with
other CTs for ``--minutes``, and the memory of the service's processes is recorded. Run it on an idle machine. All CTs
are synthetic.
"""

import argparse
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks import machine
from benchmarks.bench_diagnosis import installation
from benchmarks.serving_load import Load, cutout_bodies
from benchmarks.serving_models import CLASSIFIER, register_classifier, save_segmenter
from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.models.scoring import predict
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline.serving.cutout_classifier import BATCH_SIZE
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_registry import promote

REPOSITORY = Path(__file__).resolve().parents[1]
MIN_RATIO = 0.8
# The first quarter of the time is not compared: memory grows to the size of the largest CT.
MAX_GROWTH = 1.1
MIN_LOOKS = 8
_START_SECONDS = 180
_NUM_PAIRS = 3
Results = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write ``serving.json``; return 1 if a goal was missed."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="luna-bench-", dir=options.scratch) as folder:
        results = measure_all(Path(folder), options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "serving.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    return 0 if all(results["goals"].values()) else 1


def measure_all(folder: Path, options: argparse.Namespace) -> Results:
    """Return all figures; ``folder`` is empty."""
    settings, facts = installation(folder / "home"), machine.facts(folder)
    network = NetworkConfig(block="batch_norm") if options.chunk is None else _small(options.chunk)
    settings.home.mkdir()
    save_segmenter(settings)
    numbers = [register_classifier(settings, version, network) for version in (1, 2, 3)]
    promote(settings.mlflow_tracking_uri, CLASSIFIER, numbers[0])
    uploads = list(_phantoms(folder, options.uploads, (options.slices, options.rows, options.rows)))
    bodies = cutout_bodies(options.requests, options.cutouts, network.chunk_shape_irc)
    with _served(folder, settings, options.queue) as (address, process):
        memory = Memory(process)
        load = Load(address)
        load.client.get("/v1/models").raise_for_status()

        def switch(number: int) -> None:
            # After a third and after two thirds.
            if number in (len(bodies) // 3, 2 * len(bodies) // 3):
                chosen = numbers[1 + number // (len(bodies) // 2)]
                promote(settings.mlflow_tracking_uri, CLASSIFIER, chosen)

        load.run(uploads, bodies, at_once=options.at_once, on_classified=switch)
        memory.look()
        throughput = _throughput(load, bodies, network, options)
        deadline, repeats = time.monotonic() + 60 * options.minutes, itertools.count(1)
        while time.monotonic() < deadline:
            again = list(_changed(uploads, next(repeats)))
            load.run(again, bodies, at_once=options.at_once, on_classified=lambda _number: memory.look())
            memory.look()
    results = {"machine": facts, **load.figures(), "throughput": throughput, "memory": memory.figures()}
    return {**results, "goals": _goals(load, results)}


def _goals(load: Load, results: Results) -> dict[str, bool]:
    memory = results["memory"]
    return {
        "no failed request but 429": load.num_failed == 0,
        "no failed job": set(results["jobs"]) == {"done"},
        "three models answered": len(results["models"]) == 3,
        f"classify at least {MIN_RATIO:g} x of the bare network": results["throughput"]["ratio"] >= MIN_RATIO,
        "memory is flat": memory["looks"] >= MIN_LOOKS and memory["growth"] <= MAX_GROWTH,
    }


class Memory:
    """Memory of a process and its children, MiB.

    Args:
        process: Leader of the service's processes.
    """

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._lock = process, threading.Lock()
        self.mib: list[float] = []
        self.look()

    def look(self) -> None:
        """Record the resident memory of now; what processes share counts once for each."""
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        with self._lock:
            self.mib.append(round(total / 2**20, 1))

    def figures(self) -> Results:
        """Return first, last and largest memory, and the last quarter's median relative to the second quarter's."""
        quarter = len(self.mib) // 4
        second, last = self.mib[quarter : 2 * quarter], self.mib[-quarter:]
        growth = median(last) / median(second) if quarter else 1.0
        looks = {"looks": len(self.mib), "first_mib": self.mib[0], "last_mib": self.mib[-1], "peak_mib": max(self.mib)}
        return {**looks, "growth": round(growth, 3)}


def _throughput(load: Load, bodies: Sequence[bytes], network: NetworkConfig, options: argparse.Namespace) -> Results:
    """Return cutouts per second of the service and of the bare network, by turns, and the median of the ratios."""
    served, bare = [], []
    total = len(bodies) * options.cutouts
    module = folded(build_network(network).eval())
    chunks = np.zeros((total, 1, *network.chunk_shape_irc), np.float32)
    for _ in range(_NUM_PAIRS):
        served.append(total / load.run([], bodies, at_once=options.at_once, on_classified=lambda _number: None))
        bare.append(total / _seconds_of(lambda: predict(module, _batches(chunks))))
    ratio = median(own / other for own, other in zip(served, bare, strict=True))
    figures = {"served_per_second": median(served), "bare_per_second": median(bare), "ratio": ratio}
    return {name: round(value, 3) for name, value in figures.items()}


def _seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _batches(chunks: np.ndarray) -> Iterator[CutoutBatch]:
    for start in range(0, len(chunks), BATCH_SIZE):
        part = torch.from_numpy(chunks[start : start + BATCH_SIZE])
        zeros = torch.zeros(len(part), dtype=torch.int64)
        yield CutoutBatch(part, zeros, zeros, zeros, zeros, len(part))


@contextmanager
def _served(folder: Path, settings: Settings, queue: int) -> Iterator[tuple[str, psutil.Process]]:
    """Run `luna serve`; yield its address and its process."""
    extension, config = folder / "extension.py", folder / "serving.yaml"
    extension.write_text("import benchmarks.serving_models\n")
    config.write_text(f"max_queued: {queue}\nnum_workers: 1\n")
    environment = {
        **os.environ,
        "LUNA_HOME": str(settings.home),
        "LUNA_DATA_DIR": str(settings.data_dir),
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "LUNA_SERVICE_DIR": str(folder / "service"),
        "LUNA_EXTENSIONS": str(extension),
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, "-m", "luna_pipeline.cli", "serve", "--config", str(config), "--port", "0"]
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _address(log, process), psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _address(log: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"Listening on (\S+)\.", log.read_text()):
            return found[1]
        time.sleep(0.2)
    msg = f"The service must start in {_START_SECONDS} s, got: {log.read_text()[-500:]}. Start it by hand."
    raise OSError(msg)


def _phantoms(folder: Path, count: int, size_irc: tuple[int, int, int]) -> Iterator[Path]:
    """Write CTs that differ in one voxel."""
    import SimpleITK as sitk

    from luna_pipeline.core.phantom.luna16 import image_of
    from luna_pipeline.core.phantom.series import PhantomConfig, make_series

    first = folder / "0.mha"
    sitk.WriteImage(image_of(make_series(PhantomConfig(seed=1, number=1, size_irc=size_irc))), str(first))
    yield first
    for number in range(1, count):
        yield _copy(first, folder / f"{number}.mha", number)


def _changed(paths: Sequence[Path], repeat: int) -> Iterator[Path]:
    """Change the files for a repeat (from 1), so that each is a new CT for the service."""
    for number, path in enumerate(paths, start=repeat * len(paths)):
        yield _copy(path, path, number)


def _copy(source: Path, target: Path, number: int) -> Path:
    content = bytearray(source.read_bytes())
    content[-8:] = np.array([number % 30000, number // 30000, 0, 0], dtype="<i2").tobytes()
    target.write_bytes(content)
    return target


def _small(side: int) -> NetworkConfig:
    return NetworkConfig(block="batch_norm", n_blocks=2, conv_channels=2, chunk_shape_irc=(side, side, side))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Load test of the service.")
    parser.add_argument("--out", type=Path, required=True, help="Folder of the figures.")
    parser.add_argument("--scratch", type=Path, help="Folder for temporary files; 4 GB and all CTs.")
    parser.add_argument("--minutes", type=float, default=1.0, help="Repeat the load for this long. Default: 1.")
    parser.add_argument("--uploads", type=int, default=8)
    parser.add_argument("--queue", type=int, default=4)
    parser.add_argument("--slices", type=int, default=240)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--cutouts", type=int, default=4, help="Cutouts of a request to /v1/classify.")
    parser.add_argument("--chunk", type=int, help="Side of a small classifier's cutouts. Default: 32 x 48 x 48.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
