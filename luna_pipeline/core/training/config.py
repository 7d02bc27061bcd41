"""A training run as one value: the same value goes to the tracker, into the checkpoint and back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from luna_pipeline.core.config.checks import check_choice, check_flag, check_integer, check_text
from luna_pipeline.core.config.plain import changed, flat_items, from_plain, with_floats
from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.datasets.augmentation import AugmentationConfig
from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.ratios import MalignantRatio, NoduleRatio
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
    "SchedulerConfig",
    "StartConfig",
    "TrainingConfig",
]

MODELS: Registry[Any] = Registry(
    "model", {"nodule_classification": "luna_pipeline.core.models.classification:NoduleClassificationModel"}
)
TRAINERS: Registry[Any] = Registry("trainer", {"trainer": "luna_pipeline.core.training.trainer:Trainer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Complete configuration of a run: everything that affects its result, but not its speed.

    Attributes:
        name: What is trained, the name of its checkpoints.
        version: Version asked for; where it exists, the run gets the next build of it.
        dataset: What is to be told apart: ``cutouts`` (nodules from others), ``malignant_cutouts`` (malignant nodules
            from benign ones and others), or a registered one (``DATASETS``).
        model: What trains the network, by name (``MODELS``).
        trainer: What runs the epochs, by name (``TRAINERS``).
        network: Parts and sizes of the network.
        loss: What is minimised.
        optimizer: How weights follow their gradients.
        scheduler: How the learning rate falls.
        clipping: How large gradients may become.
        early_stopping: When a run ends before its last epoch.
        compute: How the numbers are computed.
        start: The weights that the run begins with.
        frozen: What does not learn: ``nothing``; ``batch_norm`` (running statistics stay); ``backbone`` (all but the
            head, with its dropout off and its statistics still).
        augmentation: What may happen to a training cutout.
        ratio: Classes in training; validation and test keep theirs.
        num_epochs: Epochs; each draws as many samples as training has candidates.
        batch_size: Samples of a batch, of all processes together.
        accumulated_batches: So many batches make one training step.
        validation_cadence: Validate every so many epochs, besides the first and the last.
        seed: Seed of weights, order, augmentation and dropout.
        use_annotations: Whether the annotated centres serve as extra training nodules besides the candidates.
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
    ratio: NoduleRatio | MalignantRatio = field(default_factory=NoduleRatio)
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
        _check_parts(self)
        DATASETS.check(self.dataset)
        MODELS.check(self.model)
        TRAINERS.check(self.trainer)
        check_choice("frozen", self.frozen, FROZEN)
        check_integer("num_epochs", self.num_epochs, at_least=1)
        check_integer("batch_size", self.batch_size, at_least=1)
        check_integer("accumulated_batches", self.accumulated_batches, at_least=1)
        check_integer("validation_cadence", self.validation_cadence, at_least=1)
        check_integer("seed", self.seed, at_least=0, at_most=2**32 - 1)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values that JSON can hold."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """Build the configuration that ``to_dict`` described.

        Raises:
            ValueError: If a field is missing or unknown, or a value is outside its range.
            TypeError: If a value is of the wrong kind.
        """
        return from_plain(cls, values, "configuration")

    def with_changes(self, changes: Mapping[str, Any] | None = None, **more: Any) -> "TrainingConfig":
        """Return a variant; a value within a part is named by its place: ``{"network.dropout_rate": 0.4}``.

        Raises:
            ValueError: If there is no such place, or a value is outside its range.
            TypeError: If a value is of the wrong kind.
        """
        return changed(self, {**(changes or {}), **more})

    def flat(self) -> dict[str, Any]:
        """Return one entry a value, named by its place: ``network.dropout_rate``."""
        return dict(flat_items(self))

    @property
    def digest(self) -> str:
        """SHA-256 over all values, 64 hexadecimal digits: equal configurations have equal digests."""
        text = json.dumps(with_floats(self.to_dict()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _check_parts(config: TrainingConfig) -> None:
    """Refuse a plain value where a part of the configuration belongs."""
    for entry in fields(config):
        default = entry.default_factory() if callable(entry.default_factory) else None
        if is_dataclass(default) and not is_dataclass(getattr(config, entry.name)):
            msg = f"{entry.name} must be a part of the configuration, got {getattr(config, entry.name)!r}."
            raise TypeError(f"{msg} Name one of its values, such as {entry.name}.{fields(default)[0].name}.")
