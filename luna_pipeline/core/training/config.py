"""A training run as one value: the same value goes to the tracker, into the checkpoint and back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_type_hints

from luna_pipeline.core.datasets.augmentation import AugmentationConfig
from luna_pipeline.core.datasets.ratios import NoduleRatio
from luna_pipeline.core.models.config import NetworkConfig
from luna_pipeline.core.ranges import check_choice, check_integer, check_number

__all__ = [
    "AugmentationConfig",
    "NetworkConfig",
    "NoduleRatio",
    "OptimizerConfig",
    "SchedulerConfig",
    "TrainingConfig",
]

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """How weights follow their gradients.

    Attributes:
        name: ``adamw`` or ``sgd``.
        learning_rate: Step size of the first epoch.
        weight_decay: Decoupled decay (AdamW) or L2 penalty (SGD).
        betas: Decay of AdamW's two running means; SGD does not read it.
        momentum: SGD's momentum; AdamW does not read it.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_choice("optimizer.name", self.name, ("adamw", "sgd"))
        check_number("optimizer.learning_rate", self.learning_rate, "(0, 1]")
        check_number("optimizer.weight_decay", self.weight_decay, "[0, 1]")
        check_number("optimizer.momentum", self.momentum, "[0, 1)")
        if len(self.betas) != 2:
            msg = f"optimizer.betas must be two numbers, got {self.betas}. Give the decay of both running means."
            raise ValueError(msg)
        for position, beta in enumerate(self.betas):
            check_number(f"optimizer.betas[{position}]", beta, "[0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """How the learning rate falls.

    Attributes:
        gamma: Factor on the learning rate after each epoch; 1 keeps it. 0.9 leaves a third after ten epochs.
            (0.1 would leave a ten-thousandth after five: the network stops learning unseen.)
    """

    gamma: float = 0.9

    def __post_init__(self) -> None:
        check_number("scheduler.gamma", self.gamma, "(0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """All that decides what a run on given data comes to. What only decides how fast is not in here.

    Attributes:
        name: What is trained, the name of its checkpoints.
        version: Version asked for; where it exists, the run gets the next build of it.
        network: Parts and sizes of the network.
        optimizer: How weights follow their gradients.
        scheduler: How the learning rate falls.
        augmentation: What may happen to a training cutout.
        ratio: Classes in training; validation and test keep theirs.
        num_epochs: Epochs; each draws as many samples as training has candidates.
        batch_size: Samples of a training step.
        validation_cadence: Validate every so many epochs, besides the first and the last.
        seed: Seed of weights, order, augmentation and dropout.
        use_annotations: Whether the annotated centres serve as extra training nodules besides the candidates.
    """

    name: str = "nodule_classifier"
    version: str = "0.0.1"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    ratio: NoduleRatio = field(default_factory=NoduleRatio)
    num_epochs: int = 10
    batch_size: int = 64
    validation_cadence: int = 1
    seed: int = 0
    use_annotations: bool = False

    def __post_init__(self) -> None:
        check_integer("num_epochs", self.num_epochs, at_least=1)
        check_integer("batch_size", self.batch_size, at_least=1)
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
        return _from_plain(cls, values, "configuration")

    def flat(self) -> dict[str, Any]:
        """Return one entry a value, named by its place: ``network.dropout_rate``."""
        return dict(_flat_items(self, ""))

    @property
    def digest(self) -> str:
        """SHA-256 over all values, 64 hexadecimal digits: equal configurations have equal digests."""
        text = json.dumps(_with_floats(self.to_dict()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _from_plain(config_type: type[ConfigT], values: Mapping[str, Any], place: str) -> ConfigT:
    kinds = get_type_hints(config_type)
    if not isinstance(values, Mapping) or set(values) != set(kinds):
        got = sorted(values) if isinstance(values, Mapping) else values
        msg = f"The {place} must hold {sorted(kinds)}, got {got}. Use the version that wrote it."
        raise ValueError(msg)
    arguments = {}
    for name, value in values.items():
        if is_dataclass(kinds[name]):
            arguments[name] = _from_plain(kinds[name], value, f"{place}'s {name}")
        else:
            arguments[name] = tuple(value) if isinstance(value, list) else value
    return config_type(**arguments)


def _with_floats(value: Any) -> Any:
    """Numbers as floats, so that 1 and 1.0, which are equal, are written alike."""
    if isinstance(value, dict):
        return {key: _with_floats(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_floats(entry) for entry in value]
    return float(value) if isinstance(value, int) else value


def _flat_items(config: Any, prefix: str) -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            items += _flat_items(value, f"{prefix}{entry.name}.")
        else:
            items.append((f"{prefix}{entry.name}", value))
    return items
