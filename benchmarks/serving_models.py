"""Models of the service's load test: a classifier of the default size, and a segmenter of a threshold.

The service imports this module by LUNA_EXTENSIONS. The segmenter takes no time that counts, so that the load is that of
the service; the classifier costs what a trained one costs.
"""

import contextlib
import math
import tempfile
from pathlib import Path

import torch
from torch import nn

from luna_pipeline.core.networks.config import NETWORKS, NetworkConfig
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline.core.training.checkpoints import Checkpoint, save_checkpoint
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.launchers.installation import checkpoint_store, open_mlflow_run
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_handlers import CHECKPOINT_FILE, CHECKPOINT_FOLDER

CLASSIFIER = "nodule_classifier"
_SEGMENTER, _THRESHOLD = "nodule_segmenter", "threshold_segmenter"


class ThresholdSegmenter(nn.Module):
    """The logit of a voxel is its HU above -100, in steps of 20 HU."""

    is_segmenter = True

    def __init__(self) -> None:
        super().__init__()
        self.threshold_hu = nn.Parameter(torch.tensor(-100.0))

    def forward(self, volumes_hu: torch.Tensor) -> torch.Tensor:
        """Return logits of the shape of the volumes."""
        return (volumes_hu - self.threshold_hu) / 20.0


if _THRESHOLD not in NETWORKS.names():
    NETWORKS.register(_THRESHOLD)(lambda _config: ThresholdSegmenter())


def save_segmenter(settings: Settings) -> None:
    """Write the segmenter into an installation."""
    module, network = ThresholdSegmenter(), NetworkConfig(name=_THRESHOLD, n_blocks=1)
    checkpoint = _checkpoint(_SEGMENTER, "1", network, module)
    save_checkpoint(checkpoint_store(settings).path(_SEGMENTER, "1"), checkpoint)


def register_classifier(settings: Settings, version: int, network: NetworkConfig) -> str:
    """Register a classifier with random weights in MLflow, and return the registry's number."""
    from mlflow.exceptions import MlflowException

    torch.manual_seed(version)
    checkpoint = _checkpoint(CLASSIFIER, str(version), network, build_network(network).eval())
    with (
        tempfile.TemporaryDirectory() as folder,
        open_mlflow_run(settings, run_name="load", system_metrics_seconds=None) as run,
    ):
        path = Path(folder) / CHECKPOINT_FILE
        save_checkpoint(path, checkpoint)
        run.client.log_artifact(run.run_id, str(path), CHECKPOINT_FOLDER)
        with contextlib.suppress(MlflowException):
            run.client.create_registered_model(CLASSIFIER)
        registered = run.client.create_model_version(CLASSIFIER, source=Path(folder).as_uri(), run_id=run.run_id)
    return str(registered.version)


def _checkpoint(name: str, version: str, network: NetworkConfig, module: nn.Module) -> Checkpoint:
    return Checkpoint(
        name=name,
        version=version,
        config=TrainingConfig(name=name, version=version, network=network),
        model_state={key: value.clone() for key, value in module.state_dict().items()},
        optimizer_state={},
        scheduler_state={},
        epoch=1,
        num_samples_seen=1,
        best_score=math.nan,
        rng_state={},
        training_series=[],
        validation_series=[],
        training_candidate_ids=torch.empty(0, dtype=torch.int64),
        data_fingerprint="",
    )
