"""Search spaces: which values of a training configuration a study may change, and their domains.

The domains are not Optuna's distributions, which have no draws from a numpy generator, no grids, no choices of tuples
and no errors that name the value's place. ``ray.search`` translates them for Optuna's sampler.
"""

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from luna_pipeline.core.config.checks import check_integer, check_number
from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.config.plain import nearest, with_tuples
from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class Choices:
    """A uniform choice among values.

    Attributes:
        values: At least one, each plain: a number, a string, True or False, None, or a tuple of these.
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
        """Return the values that must be allowed so that every value is."""
        return self.values

    def holds(self, value: Any) -> bool:
        """Return whether a value is one of the choices."""
        return value in self.values

    def grid(self) -> Sequence[Any]:
        """Return all values in their order."""
        return self.values


@dataclass(frozen=True, slots=True)
class Uniform:
    """A number from ``low`` to ``high``, uniformly distributed."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends(self, "uniform", lambda name, end: check_number(name, end, "(-inf, inf)"))

    def sample(self, random: np.random.Generator) -> float:
        """Draw a value."""
        return float(random.uniform(self.low, self.high))

    def extremes(self) -> tuple[float, ...]:
        """Return both ends as floats: a place for integers rejects them, as it would values in between."""
        return (float(self.low), float(self.high))

    def holds(self, value: Any) -> bool:
        """Return whether a value is a number of the range; None, a default of some places, is not."""
        kinds = int if isinstance(self, Integers) else int | float
        return isinstance(value, kinds) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class LogUniform(Uniform):
    """A positive number from ``low`` to ``high`` whose logarithm is uniformly distributed."""

    def __post_init__(self) -> None:
        _check_ends(self, "log_uniform", lambda name, end: check_number(name, end, "(0, inf)"))

    def sample(self, random: np.random.Generator) -> float:
        """Draw a value."""
        drawn = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        # Rounding may exceed an end.
        return float(min(max(drawn, self.low), self.high))


@dataclass(frozen=True, slots=True)
class Integers(Uniform):
    """An integer from ``low`` to ``high``, both included, uniformly distributed."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_ends(self, "integers", lambda name, end: check_integer(name, end, at_least=-(2**53), at_most=2**53))

    def sample(self, random: np.random.Generator) -> int:
        """Draw a value."""
        return int(random.integers(self.low, self.high, endpoint=True))

    def extremes(self) -> tuple[int, ...]:
        """Return both ends."""
        return (self.low, self.high)

    def grid(self) -> Sequence[int]:
        """Return all values in ascending order, as a range that needs no memory."""
        return range(self.low, self.high + 1)


Domain: TypeAlias = Choices | Uniform
KINDS: Mapping[str, type[Any]] = {
    "choices": Choices,
    "integers": Integers,
    "uniform": Uniform,
    "log_uniform": LogUniform,
}


def domain_from_plain(place: str, value: Any) -> Domain:
    """Read a domain from its plain form: ``{"log_uniform": [0.0001, 0.01]}``, ``{"choices": [4, 8]}``.

    Args:
        place: The searched value, for messages.
        value: The plain form.

    Raises:
        ValueError: If it is not a domain, or its ends are not allowed.
        TypeError: If an end is of the wrong kind.
    """
    kind, values = next(iter(value.items())) if isinstance(value, Mapping) and len(value) == 1 else ("", None)
    if kind not in KINDS or not isinstance(values, list | tuple):
        msg = f"What is searched must be one of {', '.join(KINDS)} with its values, got {value!r} ({place})."
        raise ValueError(f'{msg} Write {{"choices": [1, 2]}} or {{"uniform": [0, 0.5]}}.')
    if kind != "choices" and len(values) != 2:
        msg = f"A range must have a low and a high end, got {list(values)} ({place}). Give two numbers."
        raise ValueError(msg)
    with _named(place):
        domain: Domain = Choices(with_tuples(values)) if kind == "choices" else KINDS[kind](*values)
    return domain


def domain_to_plain(domain: Domain) -> dict[str, list[Any]]:
    """Return the plain form of a domain, as ``domain_from_plain`` reads it."""
    kind = next(name for name, kind in KINDS.items() if type(domain) is kind)
    values = domain.values if isinstance(domain, Choices) else (domain.low, domain.high)
    # Tuples become lists at any depth.
    plain: list[Any] = json.loads(json.dumps(values))
    return {kind: plain}


def _check_ends(domain: Uniform, kind: str, check: Callable[[str, Any], Any]) -> None:
    owner = f"{kind}'" if kind.endswith("s") else f"{kind}'s"
    check(f"{owner} low end", domain.low)
    check(f"{owner} high end", domain.high)
    if domain.low >= domain.high:
        msg = f"A range's low end must be below its high end, got {domain.low} and {domain.high}."
        raise ValueError(f"{msg} Exchange or part them.")


@contextlib.contextmanager
def _named(place: str) -> Iterator[None]:
    """Add the place to the message of an error."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise type(error)(f"{error} (search space, {place})") from error


_HERE = "luna_pipeline.tuning.space"
SPACES: Registry[Any] = Registry(
    "search space",
    {name: f"{_HERE}:{name}" for name in ("learning", "network", "augmentation", "everything", "small_grid")},
)
# Places that the study sets itself, so that its trials are comparable.
OWN_PLACES = ("name", "version", "dataset", "num_epochs", "validation_cadence", "use_annotations", "start", "frozen")
MAX_GRID = 100_000

Changes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Values of a configuration that are searched.

    Attributes:
        domains: Domain of each value by its place: ``optimizer.learning_rate``.
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
            ValueError: If a domain is invalid.
            TypeError: If an end of a range is of the wrong kind.
        """
        if not isinstance(values, Mapping):
            msg = f"A search space must name its places, got {values!r}. Write a JSON object."
            raise ValueError(msg)
        return cls({place: domain_from_plain(place, value) for place, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the plain form, which can be written as JSON."""
        return {place: domain_to_plain(domain) for place, domain in self.domains.items()}

    def check(self, base: TrainingConfig) -> None:
        """Check that the configuration has these places and allows their values.

        Args:
            base: The configuration that trials change.

        Raises:
            ValueError: If a place does not exist or a value is not allowed.
            TypeError: If a value is of the wrong kind.
        """
        known = [place for place in base.flat() if place.partition(".")[0] not in OWN_PLACES]
        for place, domain in self.domains.items():
            if place not in known:
                msg = f"A search space's place must be one of the configuration's values, got {place!r}."
                hint = nearest(place, known)
                raise ValueError(f"{msg} {f'Did you mean {hint!r}? ' if hint else ''}Choose among {', '.join(known)}.")
            for value in domain.extremes():
                with _named(place):
                    base.with_changes({place: value})

    def sample(self, random: np.random.Generator) -> Changes:
        """Draw a value for each place."""
        return {place: domain.sample(random) for place, domain in self.domains.items()}

    def grid(self) -> Iterator[Changes]:
        """Yield all combinations; the last place varies fastest.

        Raises:
            ValueError: If a place has no countable values, or there are more than 100,000 combinations.
        """
        axes: dict[str, Sequence[Any]] = {}
        for place, domain in self.domains.items():
            if not isinstance(domain, Choices | Integers):
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
        ValueError: If there is no such name or file, or the file is not a space.
        TypeError: If an end of a range is of the wrong kind.
    """
    if name_or_file in SPACES.names() or not Path(name_or_file).suffix:
        space: SearchSpace = SPACES.get(name_or_file)()
        return space
    try:
        values = read_json_object(Path(name_or_file), "A search space", advice="Fix it, or give the name of a space.")
    except FileNotFoundError as error:
        msg = f"A search space must be a name or a JSON file, got no such file ({name_or_file}). Fix or rename it."
        raise ValueError(msg) from error
    try:
        return SearchSpace.from_dict(values)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{error} (file {name_or_file})") from error


def learning() -> SearchSpace:
    """Optimizer and learning rate schedule: the values to search first."""
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
    """Network, its depth and width, dropout, and loss."""
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
    """Strength of the augmentations."""
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
    """All of the above; needs hundreds of trials."""
    return SearchSpace({**learning().domains, **network().domains, **augmentation().domains})


def small_grid() -> SearchSpace:
    """Learning rate and its decay, three values each."""
    return SearchSpace(
        {"optimizer.learning_rate": Choices((3e-4, 1e-3, 3e-3)), "scheduler.gamma": Choices((0.5, 0.7, 0.9))}
    )


def changes_from_plain(values: Mapping[str, Any]) -> Changes:
    """Return changes read from JSON in the form of a configuration, with tuples for lists."""
    return {place: with_tuples(value) for place, value in values.items()}
