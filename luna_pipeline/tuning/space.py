"""A search space: places of a training configuration and what each may be, refused before anything starts."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from luna_pipeline.core.config.checks import check_integer, check_number
from luna_pipeline.core.config.plain import with_tuples
from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.training.config import TrainingConfig

ANY_NUMBER = "(-inf, inf)"


@dataclass(frozen=True, slots=True)
class Choices:
    """One of some values, each as likely as the others.

    Attributes:
        values: At least one, each plain: a number, a word, True or False, None, or a tuple of these.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            msg = "Choices must hold at least one value, got none. Leave the place out of the search."
            raise ValueError(msg)
        texts = [repr(value) for value in self.values]
        if twice := sorted({text for text in texts if texts.count(text) > 1}):
            msg = f"Choices must hold each value once, got {twice[0]} twice. Leave one out."
            raise ValueError(msg)

    def sample(self, random: np.random.Generator) -> Any:
        """Draw a value."""
        return self.values[int(random.integers(len(self.values)))]

    def extremes(self) -> tuple[Any, ...]:
        """Return the values that must all be allowed for every value to be."""
        return self.values

    def holds(self, value: Any) -> bool:
        """Say whether a value is one of them."""
        return value in self.values

    def grid(self) -> tuple[Any, ...]:
        """Return all values in their order."""
        return self.values


@dataclass(frozen=True, slots=True)
class Integers:
    """A whole number from ``low`` to ``high``, both included, each as likely as the others."""

    low: int
    high: int

    def __post_init__(self) -> None:
        check_integer("integers' low end", self.low, at_least=-(2**53), at_most=2**53)
        check_integer("integers' high end", self.high, at_least=-(2**53), at_most=2**53)
        _check_order(self.low, self.high)

    def sample(self, random: np.random.Generator) -> int:
        """Draw a value."""
        return int(random.integers(self.low, self.high, endpoint=True))

    def holds(self, value: Any) -> bool:
        """Say whether a value is one of them; None, which stands for no limit in some places, is not."""
        return isinstance(value, int) and self.low <= value <= self.high

    def extremes(self) -> tuple[int, ...]:
        """Return both ends."""
        return (self.low, self.high)

    def grid(self) -> Sequence[int]:
        """Return all values, rising; however many, they take no room."""
        return range(self.low, self.high + 1)


@dataclass(frozen=True, slots=True)
class Uniform:
    """A number from ``low`` to ``high``, each as likely as the others."""

    low: float
    high: float

    def __post_init__(self) -> None:
        check_number("uniform's low end", self.low, ANY_NUMBER)
        check_number("uniform's high end", self.high, ANY_NUMBER)
        _check_order(self.low, self.high)

    def sample(self, random: np.random.Generator) -> float:
        """Draw a value."""
        return float(random.uniform(self.low, self.high))

    def holds(self, value: Any) -> bool:
        """Say whether a value lies within; None, which stands for no limit in some places, does not."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def extremes(self) -> tuple[float, ...]:
        """Return both ends, as numbers that need not be whole: none between them is."""
        return (float(self.low), float(self.high))


@dataclass(frozen=True, slots=True)
class LogUniform:
    """A positive number from ``low`` to ``high`` whose logarithm is uniform: each order of magnitude as likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        check_number("log_uniform's low end", self.low, "(0, inf)")
        check_number("log_uniform's high end", self.high, "(0, inf)")
        _check_order(self.low, self.high)

    def sample(self, random: np.random.Generator) -> float:
        """Draw a value."""
        drawn = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        # Rounding may lead past an end.
        return float(min(max(drawn, self.low), self.high))

    def holds(self, value: Any) -> bool:
        """Say whether a value lies within; None, which stands for no limit in some places, does not."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def extremes(self) -> tuple[float, ...]:
        """Return both ends, as numbers that need not be whole: none between them is."""
        return (float(self.low), float(self.high))


Domain: TypeAlias = Choices | Integers | Uniform | LogUniform
KINDS: Mapping[str, type[Domain]] = {
    "choices": Choices,
    "integers": Integers,
    "uniform": Uniform,
    "log_uniform": LogUniform,
}


def domain_from_plain(place: str, value: Any) -> Domain:
    """Read a domain from its plain form: ``{"log_uniform": [0.0001, 0.01]}``, ``{"choices": [4, 8]}``.

    Args:
        place: What it is the domain of, for messages.
        value: The plain form.

    Raises:
        ValueError: If it is none, or its ends are not allowed.
        TypeError: If an end is of the wrong kind.
    """
    kind, values = next(iter(value.items())) if isinstance(value, Mapping) and len(value) == 1 else ("", None)
    if kind not in KINDS or not isinstance(values, list | tuple):
        msg = f"What is searched must be one of {', '.join(KINDS)} with its values, got {value!r} ({place})."
        raise ValueError(f'{msg} Write {{"choices": [1, 2]}} or {{"uniform": [0, 0.5]}}.')
    if kind != "choices" and len(values) != 2:
        msg = f"A range must have a low and a high end, got {list(values)} ({place}). Give two numbers."
        raise ValueError(msg)
    try:
        domain: Domain = Choices(with_tuples(values)) if kind == "choices" else KINDS[kind](*values)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{error} (search space, {place})") from error
    return domain


def domain_to_plain(domain: Domain) -> dict[str, list[Any]]:
    """Return the plain form of a domain, as ``domain_from_plain`` reads it."""
    kind = next(name for name, kind in KINDS.items() if type(domain) is kind)
    values = domain.values if isinstance(domain, Choices) else (domain.low, domain.high)
    # What is a tuple here, at any depth, is a list there.
    plain: list[Any] = json.loads(json.dumps(values))
    return {kind: plain}


def _check_order(low: float, high: float) -> None:
    if low >= high:
        msg = f"A range's low end must be below its high end, got {low} and {high}. Exchange or part them."
        raise ValueError(msg)


_HERE = "luna_pipeline.tuning.space"
SPACES: Registry[Any] = Registry(
    "search space",
    {name: f"{_HERE}:{name}" for name in ("learning", "network", "augmentation", "everything", "small_grid")},
)
# What a study decides for itself, so that its trials can be compared.
OWN_PLACES = ("name", "version", "dataset", "num_epochs", "validation_cadence", "use_annotations", "start", "frozen")
MAX_GRID = 100_000

Changes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Which values of a configuration are searched.

    Attributes:
        domains: What each may be, by its place: ``optimizer.learning_rate``.
    """

    domains: Mapping[str, Domain] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.domains:
            msg = "A search space must hold at least one place, got none. Name one, such as optimizer.learning_rate."
            raise ValueError(msg)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SearchSpace":
        """Read the plain form: ``{"optimizer.learning_rate": {"log_uniform": [0.0001, 0.01]}}``.

        Raises:
            ValueError: If a domain is none.
            TypeError: If an end of a range is of the wrong kind.
        """
        if not isinstance(values, Mapping):
            msg = f"A search space must name its places, got {values!r}. Write a JSON object."
            raise ValueError(msg)
        return cls({place: domain_from_plain(place, value) for place, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the plain form that JSON can hold."""
        return {place: domain_to_plain(domain) for place, domain in self.domains.items()}

    def check(self, base: TrainingConfig) -> None:
        """Refuse places that a configuration has not, and ends that it does not allow.

        Args:
            base: The configuration that trials change.

        Raises:
            ValueError: If a place or a value is not allowed; all else is as in ``base``.
            TypeError: If a value is of the wrong kind.
        """
        known = [place for place in base.flat() if place.partition(".")[0] not in OWN_PLACES]
        for place, domain in self.domains.items():
            if place not in known:
                msg = f"A search space's place must be one of the configuration's values, got {place!r}."
                raise ValueError(f"{msg} Choose among {', '.join(known)}.")
            for value in domain.extremes():
                _allowed(base, {place: value}, place)

    def sample(self, random: np.random.Generator) -> Changes:
        """Draw a value for each place."""
        return {place: domain.sample(random) for place, domain in self.domains.items()}

    def grid(self) -> Iterator[Changes]:
        """Yield all combinations, the last place moving fastest.

        Raises:
            ValueError: If a place has no countable values, or there are more than 100,000 combinations.
        """
        axes: dict[str, Sequence[Any]] = {}
        for place, domain in self.domains.items():
            if isinstance(domain, Uniform | LogUniform):
                msg = f"A grid's places must have countable values, got a range of numbers ({place})."
                raise ValueError(f"{msg} Give choices, or search at random.")
            axes[place] = domain.grid()
        if (size := math.prod(map(len, axes.values()))) > MAX_GRID:
            msg = f"A grid must have at most {MAX_GRID} combinations, got {size}. Leave out values or search at random."
            raise ValueError(msg)
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


def read_space(name_or_file: str) -> SearchSpace:
    """Return a space by its name, or from a JSON file.

    Raises:
        ValueError: If there is no such name or file, or it describes no space.
        TypeError: If an end of a range is of the wrong kind.
    """
    if name_or_file in SPACES.names() or not Path(name_or_file).suffix:
        space: SearchSpace = SPACES.get(name_or_file)()
        return space
    try:
        values = json.loads(Path(name_or_file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"A search space must be a name or a JSON file, got {error} ({name_or_file}). Mend or rename it."
        raise ValueError(msg) from error
    return SearchSpace.from_dict(values)


def learning() -> SearchSpace:
    """How weights follow their gradients: what matters first."""
    return SearchSpace(
        {
            "optimizer.learning_rate": LogUniform(1e-4, 1e-2),
            "optimizer.weight_decay": LogUniform(1e-6, 1e-1),
            "optimizer.name": Choices(("adamw", "sgd")),
            "scheduler.gamma": Uniform(0.5, 1.0),
            "batch_size": Choices((8, 16, 32, 64)),
        }
    )


def network() -> SearchSpace:
    """Which network, how deep and wide, with how much dropout, and by which loss."""
    return SearchSpace(
        {
            "network.name": Choices(("luna", "densenet", "se_resnet", "convnext")),
            "network.n_blocks": Integers(3, 4),
            "network.conv_channels": Choices((4, 8, 16)),
            "network.dropout_rate": Uniform(0.0, 0.5),
            "loss.name": Choices(("cross_entropy", "focal")),
        }
    )


def augmentation() -> SearchSpace:
    """How much a training cutout may be changed."""
    return SearchSpace(
        {
            "augmentation.offset.probability": Uniform(0.0, 1.0),
            "augmentation.offset.share": Uniform(0.0, 0.2),
            "augmentation.scale.probability": Uniform(0.0, 1.0),
            "augmentation.scale.share": Uniform(0.0, 0.3),
            "augmentation.rotate.probability": Uniform(0.0, 1.0),
            "augmentation.noise.probability": Uniform(0.0, 1.0),
            "augmentation.noise.std_hu": Uniform(0.0, 50.0),
        }
    )


def everything() -> SearchSpace:
    """All of the above; wants hundreds of trials."""
    return SearchSpace({**learning().domains, **network().domains, **augmentation().domains})


def small_grid() -> SearchSpace:
    """Learning rate and its fall, three values each."""
    return SearchSpace(
        {"optimizer.learning_rate": Choices((3e-4, 1e-3, 3e-3)), "scheduler.gamma": Choices((0.5, 0.7, 0.9))}
    )


def changes_from_plain(values: Mapping[str, Any]) -> Changes:
    """Return changes that JSON has read as a configuration takes them."""
    return {place: with_tuples(value) for place, value in values.items()}


def _allowed(base: TrainingConfig, changes: Changes, place: str) -> None:
    try:
        base.with_changes(changes)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{error} (search space, {place})") from error
