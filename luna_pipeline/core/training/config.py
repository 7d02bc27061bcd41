"""Configuration of a training run, as it is tracked and stored in checkpoints."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from luna_pipeline.core.config.checks import check_choice, check_flag, check_integer, check_parts, check_text
from luna_pipeline.core.config.plain import changed, flat_items, from_plain, with_floats
from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.datasets.augmentation import AugmentationConfig
from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.ratios import MalignantRatio, NoduleRatio, PlaceRatio
from luna_pipeline.core.networks.config import FROZEN, Frozen, LossConfig, NetworkConfig
from luna_pipeline.core.training.parts import (
    ClippingConfig,
    ComputeConfig,
    EarlyStoppingConfig,
    OptimizerConfig,
    SchedulerConfig,
    StartConfig,
)

__all__ = [
    "MODELS",
    "TRAINERS",
    "AugmentationConfig",
    "ClippingConfig",
    "ComputeConfig",
    "EarlyStoppingConfig",
    "LossConfig",
    "MalignantRatio",
    "NetworkConfig",
    "NoduleRatio",
    "OptimizerConfig",
    "PlaceRatio",
    "SchedulerConfig",
    "StartConfig",
    "TrainingConfig",
]

MODELS: Registry[Any] = Registry(
    "model",
    {
        "nodule_classification": "luna_pipeline.core.models.classification:NoduleClassificationModel",
        "nodule_segmentation": "luna_pipeline.core.models.segmentation:SegmentationModel",
    },
)
TRAINERS: Registry[Any] = Registry("trainer", {"trainer": "luna_pipeline.core.training.trainer:Trainer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Complete configuration of a run: everything that affects its result, but not its speed.

    Attributes:
        name: Name of the trained model and its checkpoints.
        version: Requested version; if it exists, the run gets its next build.
        dataset: Classes to distinguish: ``cutouts`` (nodules from others), ``malignant_cutouts`` (malignant nodules
            from benign ones and others), ``nodule_masks`` (voxels of nodules from others), or a registered one
            (``DATASETS``).
        model: Name of the model that trains the network (``MODELS``).
        trainer: Name of the trainer that runs the epochs (``TRAINERS``).
        network: Parts and sizes of the network.
        loss: Loss that training minimises.
        optimizer: Optimizer of the weights.
        scheduler: Schedule of the learning rate.
        clipping: Limits of the gradients.
        early_stopping: Condition that ends a run before its last epoch.
        compute: Precision and memory format.
        start: Initial weights.
        frozen: Frozen parts: ``nothing``; ``batch_norm`` (running statistics are fixed); ``backbone`` (everything but
            the head; its dropout is off and its running statistics are fixed).
        augmentation: Random changes of training cutouts.
        ratio: Ratio of the classes in training; validation and test keep theirs.
        num_epochs: Epochs; each draws as many samples as training has candidates.
        batch_size: Samples of a batch, over all processes together.
        accumulated_batches: Batches of an optimizer step: it uses this number times ``batch_size`` samples.
        validation_cadence: Validate every n-th epoch, besides the first and the last.
        seed: Seed of weights, order, augmentation and dropout.
        use_annotations: Whether the annotated centres are extra training nodules besides the candidates.
    """

    name: str = "nodule_classifier"
    version: str = "0.0.1"
    dataset: str = "cutouts"
    model: str = "nodule_classification"
    trainer: str = "trainer"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    clipping: ClippingConfig = field(default_factory=ClippingConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    start: StartConfig = field(default_factory=StartConfig)
    frozen: Frozen = "nothing"
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    ratio: NoduleRatio | MalignantRatio | PlaceRatio = field(default_factory=NoduleRatio)
    num_epochs: int = 10
    batch_size: int = 64
    accumulated_batches: int = 1
    validation_cadence: int = 1
    seed: int = 0
    use_annotations: bool = False

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_text("version", self.version)
        check_flag("use_annotations", self.use_annotations)
        check_parts(self)
        DATASETS.check(self.dataset)
        MODELS.check(self.model)
        TRAINERS.check(self.trainer)
        check_choice("frozen", self.frozen, FROZEN)
        for name in ("num_epochs", "batch_size", "accumulated_batches", "validation_cadence"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("seed", self.seed, at_least=0, at_most=2**32 - 1)

    @property
    def is_segmentation(self) -> bool:
        """Whether the run trains a network that segments nodules; others classify candidates."""
        return self.dataset == "nodule_masks"

    @property
    def score_name(self) -> str:
        """Name of the validation score that chooses the epoch."""
        return "crop Dice" if self.is_segmentation else "AUC"

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values that JSON can hold."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """Return the configuration from the values of ``to_dict``.

        Raises:
            ValueError: If a field is missing or unknown, or a value is outside its range.
            TypeError: If a value is of the wrong kind.
        """
        return from_plain(cls, values, "configuration")

    def with_changes(self, changes: Mapping[str, Any] | None = None, **more: Any) -> "TrainingConfig":
        """Return a variant; a value within a part is named by its path: ``{"network.dropout_rate": 0.4}``.

        Raises:
            ValueError: If there is no such path, or a value is outside its range.
            TypeError: If a value is of the wrong kind.
        """
        return changed(self, {**(changes or {}), **more})

    def flat(self) -> dict[str, Any]:
        """Return all values by their paths, such as ``network.dropout_rate``."""
        return dict(flat_items(self))

    @property
    def digest(self) -> str:
        """SHA-256 over all values, 64 hexadecimal digits: equal configurations have equal digests."""
        text = json.dumps(with_floats(self.to_dict()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
