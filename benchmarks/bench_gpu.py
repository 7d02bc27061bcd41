"""Samples a second on a GPU: loading, training and evaluation, and the share of time in which the device waits.

``python -m benchmarks.bench_gpu`` prints a table; without a CUDA device it prints one line.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.project_training import ProjectClassifier, config_of
from benchmarks.training_data import TrainingSite, TrainingWorkload, make_training_site
from luna_pipeline.core.datasets.augmentation import AugmentationConfig
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.training.building import build_data_module
from luna_pipeline.core.training.config import TrainingConfig

WAYS = {
    "float32": {},
    "mixed precision": {"compute.mixed_precision": True},
    "mixed precision, compiled": {"compute.mixed_precision": True, "compute.is_compiled": True},
}
ACTIVITIES = [ProfilerActivity.CUDA]
NUM_EPOCHS = 5
NUM_WORKERS = 8


def has_device() -> bool:
    """Return whether there is a CUDA device."""
    return torch.cuda.is_available()


def main(workload: TrainingWorkload | None = None) -> None:
    """Print the figures of this machine's GPU."""
    if not has_device():
        print("bench-gpu: there is no CUDA device, nothing was measured.")
        return
    workload = workload or TrainingWorkload(num_series=17)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, batches of {workload.batch_size}")
    print(f"{'':<40} {'samples/s':>10} {'device waits':>13}")
    with tempfile.TemporaryDirectory() as folder:
        site = make_training_site(Path(folder), workload)
        for name, changes in WAYS.items():
            config = config_of(workload, dropout_rate=0.2, augmentation=AugmentationConfig.all_five())
            for part, (rate, waits) in measured(config.with_changes(changes), site).items():
                print(f"{part + ', ' + name:<40} {rate:>10.0f} {100 * waits:>11.1f} %")


def measured(config: TrainingConfig, site: TrainingSite) -> dict[str, tuple[float, float]]:
    """Return samples a second and the share of time in which the device waits, by part of the work."""
    data = build_data_module(
        config, training_index=site.index, validation_index=None, store=site.store, num_workers=NUM_WORKERS
    )
    model: Any = ProjectClassifier(config, num_batches=data.num_training_batches).model
    parts: dict[str, Callable[[int], object]] = {
        "loading to the device": lambda epoch: load(data, epoch),
        "training": lambda epoch: model.do_training(epoch, data.get_training_dataloader(epoch=epoch)),
        "evaluation": lambda _: model.do_validation(1, data.get_training_dataloader(epoch=1)),
    }
    return {part: timed(work, num_samples=len(data.training)) for part, work in parts.items()}


def load(data: DataModule, epoch: int) -> None:
    """Load the batches of an epoch and copy them to the device."""
    for batch in data.get_training_dataloader(epoch=epoch):
        batch.chunks_hu.to("cuda", non_blocking=True)


def timed(work: Callable[[int], object], *, num_samples: int) -> tuple[float, float]:
    """Return samples a second over some epochs after a first one, and the share of time without a running kernel."""
    work(1)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for epoch in range(2, 2 + NUM_EPOCHS):
        work(epoch)
    torch.cuda.synchronize()
    rate = NUM_EPOCHS * num_samples / (time.perf_counter() - started)
    with profile(activities=ACTIVITIES) as trace:
        started = time.perf_counter()
        work(2 + NUM_EPOCHS)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    busy = sum(entry.self_device_time_total for entry in trace.key_averages()) / 1e6
    return rate, max(0.0, 1 - busy / seconds)


if __name__ == "__main__":
    main()
