"""Models of a diagnosis without training: a segmenter of bright voxels, classifiers with random weights."""

import contextlib
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from luna_pipeline.core.diagnosis.diagnose import DiagnosisModel, DiagnosisModels
from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.networks.config import NETWORKS, NetworkConfig
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore, save_checkpoint
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.launchers.installation import open_mlflow_run
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_handlers import CHECKPOINT_FILE, CHECKPOINT_FOLDER
from luna_pipeline_tests.core.diagnosis.examples import model as model_version

BRIGHT = "bright_test_segmenter"
CHUNK_IRC = (8, 8, 8)
# Registers the segmenter in another process: LUNA_EXTENSIONS.
EXTENSION = "import luna_pipeline_tests.diagnosis_models\n"


class BrightSegmenter(nn.Module):
    """The logit of a voxel is its HU above a threshold, in steps of 20 HU."""

    is_segmenter = True

    def __init__(self, threshold_hu: float = -100.0) -> None:
        super().__init__()
        self.threshold_hu = nn.Parameter(torch.tensor(threshold_hu))

    def forward(self, volumes_hu: torch.Tensor) -> torch.Tensor:
        return (volumes_hu - self.threshold_hu) / 20.0


if BRIGHT not in NETWORKS.names():
    NETWORKS.register(BRIGHT)(lambda _config: BrightSegmenter())

SMALL = NetworkConfig(block="batch_norm", n_blocks=2, conv_channels=2, chunk_shape_irc=CHUNK_IRC)


def small_classifier(seed: int = 0) -> nn.Module:
    """A classifier whose scores differ from cutout to cutout."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(SMALL)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5)
    network.tail_batchnorm.running_mean.fill_(-500.0)
    network.tail_batchnorm.running_var.fill_(300.0**2)
    return network.eval()


def diagnosis_models(*, has_malignancy: bool = True, decision: Decision | None = None) -> DiagnosisModels:
    segmenter = DiagnosisModel(network=BrightSegmenter(), version=model_version("segmenter"), chunk_shape_irc=CHUNK_IRC)
    classifiers = [
        DiagnosisModel(
            network=small_classifier(seed),
            version=model_version(role),
            chunk_shape_irc=CHUNK_IRC,
            decision=decision or Decision(),
        )
        for seed, role in enumerate(("classifier", "malignancy"))
    ]
    return DiagnosisModels(
        segmenter=segmenter, classifier=classifiers[0], malignancy=classifiers[1] if has_malignancy else None
    )


def checkpoint_of(role: str, *, name: str | None = None, version: str = "0.0.1", **changes: Any) -> Checkpoint:
    """A checkpoint of a role: ``segmenter``, ``classifier`` or ``malignancy``."""
    names = {"segmenter": "nodule_segmenter", "classifier": "nodule_classifier", "malignancy": "malignancy_classifier"}
    name = name or names[role]
    module = BrightSegmenter() if role == "segmenter" else small_classifier(seed=int(role == "malignancy"))
    network = NetworkConfig(name=BRIGHT, n_blocks=1) if role == "segmenter" else SMALL
    config = TrainingConfig(name=name, version=version, network=network)
    if role == "malignancy":
        config = config.with_changes(dataset="malignant_cutouts")
    values = {
        "name": name,
        "version": version,
        "config": config,
        "model_state": {key: value.clone() for key, value in module.state_dict().items()},
        "optimizer_state": {},
        "scheduler_state": {},
        "epoch": 1,
        "num_samples_seen": 1,
        "best_score": math.nan,
        "rng_state": {},
        "training_series": ["1.2.3"],
        "validation_series": [],
        "training_candidate_ids": torch.empty(0, dtype=torch.int64),
        "data_fingerprint": "",
    }
    return Checkpoint(**(values | changes))


def save_models(home: Path, *roles: str, **changes: Any) -> None:
    """Write checkpoints of roles into an installation."""
    store = CheckpointStore(home / "checkpoints")
    for role in roles or ("segmenter", "classifier", "malignancy"):
        checkpoint = checkpoint_of(role, **changes)
        save_checkpoint(store.path(checkpoint.name, checkpoint.version), checkpoint)


def register(settings: Settings, checkpoint: Checkpoint) -> str:
    """Register a checkpoint in MLflow without an exported model, which takes seconds; return the version's number."""
    from mlflow import MlflowException

    with (
        tempfile.TemporaryDirectory() as folder,
        open_mlflow_run(settings, run_name="test", system_metrics_seconds=None) as run,
    ):
        path = Path(folder) / CHECKPOINT_FILE
        save_checkpoint(path, replace(checkpoint, mlflow_run_id=run.run_id))
        run.client.log_artifact(run.run_id, str(path), CHECKPOINT_FOLDER)
        with contextlib.suppress(MlflowException):
            run.client.create_registered_model(checkpoint.name)
        version = run.client.create_model_version(checkpoint.name, source=Path(folder).as_uri(), run_id=run.run_id)
    return str(version.version)
