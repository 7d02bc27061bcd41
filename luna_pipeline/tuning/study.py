"""Configuration of a study: what is searched, by which score, for how long; and the variants that it tries."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from luna_pipeline.core.config.checks import check_choice, check_integer, check_number
from luna_pipeline.core.config.plain import with_floats
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.tuning.space import Changes, SearchSpace

Searcher = Literal["grid", "random", "optuna"]
SEARCHERS: tuple[str, ...] = get_args(Searcher)
Scheduler = Literal["none", "asha"]
SCHEDULERS: tuple[str, ...] = get_args(Scheduler)
Metric = Literal["cpm", "auc"]
METRICS: tuple[str, ...] = get_args(Metric)


@dataclass(frozen=True, slots=True)
class Variant:
    """Configuration of a trial, as changes to the base.

    Attributes:
        trial: Number; trial 0 is the unchanged base.
        changes: Changed values by place.
    """

    trial: int
    changes: Changes = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Version of the trial's run."""
        return f"trial-{self.trial:04d}"

    def __str__(self) -> str:
        """The changes in words."""
        if not self.changes:
            return "the recipe as it is"
        return ", ".join(f"{place}={_shown(value)}" for place, value in self.changes.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyConfig:
    """Complete configuration of a study: everything that affects its result.

    Attributes:
        base: The configuration to improve; trial 0 is unchanged.
        space: Values that are searched.
        searcher: ``grid`` tries all combinations; ``random`` draws; ``optuna`` samples by the scores of earlier trials.
        scheduler: ``none`` trains every trial to its end; ``asha`` stops trials with low scores early.
        metric: The validation score to maximise: ``cpm`` (LUNA16's) or ``auc``.
        num_trials: Number of trials, including trial 0; None for a grid.
        num_epochs: Epochs of a trial that is not stopped early; None for the base's.
        total_epochs: Epochs of all trials after which the study ends; None for no limit.
        total_seconds: Seconds after which the study ends; None for no limit. A resumed study starts counting at 0.
        grace_epochs: ``asha`` stops no trial before this epoch.
        reduction_factor: ``asha`` continues one of this many trials at each step.
        seed: Seed of the search.
    """

    base: TrainingConfig
    space: SearchSpace
    searcher: Searcher = "random"
    scheduler: Scheduler = "asha"
    metric: Metric = "cpm"
    num_trials: int | None = None
    num_epochs: int | None = None
    total_epochs: int | None = None
    total_seconds: float | None = None
    grace_epochs: int = 1
    reduction_factor: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("searcher", self.searcher, SEARCHERS)
        check_choice("scheduler", self.scheduler, SCHEDULERS)
        check_choice("metric", self.metric, METRICS)
        for name in ("num_trials", "num_epochs", "total_epochs"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), at_least=1)
        if self.total_seconds is not None:
            check_number("total_seconds", self.total_seconds, "(0, inf)")
        check_integer("grace_epochs", self.grace_epochs, at_least=1)
        check_integer("reduction_factor", self.reduction_factor, at_least=2)
        check_integer("seed", self.seed, at_least=0, at_most=2**32 - 1)
        _check_counted(self)
        _check_base(self)
        _check_schedules(self)
        self.space.check(self.base)
        # Variants that are known in advance are checked in advance.
        for variant in self.variants() or ():
            self.config_of(variant)

    @property
    def epochs(self) -> int:
        """Epochs of a trial that is not stopped."""
        return self.num_epochs or self.base.num_epochs

    def variants(self) -> list[Variant] | None:
        """Return all variants; None if they depend on the scores of earlier trials."""
        if self.searcher == "optuna":
            return None
        if self.searcher == "grid":
            tried = list(self.space.grid())
        else:
            random = np.random.default_rng(self.seed)
            tried = [self.space.sample(random) for _ in range(int(self.num_trials or 0) - 1)]
        return [Variant(0), *(Variant(number, changes) for number, changes in enumerate(tried, start=1))]

    def config_of(self, variant: Variant) -> TrainingConfig:
        """Return the complete configuration of a trial.

        Raises:
            ValueError: If its values do not fit together.
            TypeError: If a value is of the wrong kind.
        """
        own = {"version": variant.version, "num_epochs": self.epochs, "validation_cadence": 1}
        try:
            return self.base.with_changes({**variant.changes, **own})
        except (ValueError, TypeError) as error:
            raise type(error)(f"{error} (trial {variant.trial}: {variant})") from error

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, which can be written as JSON."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**own, "base": self.base.to_dict(), "space": self.space.to_dict()}

    @property
    def digest(self) -> str:
        """SHA-256 over all values, 64 hexadecimal digits."""
        text = json.dumps(with_floats(self.to_dict()), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _check_counted(study: StudyConfig) -> None:
    if study.searcher == "grid" and study.num_trials is not None:
        msg = f"A grid must not be told its trials, got num_trials {study.num_trials}. Leave it out, or draw at random."
        raise ValueError(msg)
    if study.searcher != "grid" and (study.num_trials or 0) < 2:
        msg = f"A search must have at least two trials, got num_trials {study.num_trials}. Give 2 or more."
        raise ValueError(f"{msg} (the first is the recipe as it is)")


def _check_base(study: StudyConfig) -> None:
    if study.base.start.name is not None:
        msg = f"A study must begin with new weights, got those of {study.base.start.name}. Leave start.name out."
        raise ValueError(msg)
    if study.metric == "cpm" and study.base.dataset != "cutouts":
        msg = f"CPM must be of nodules found, got a study of {study.base.dataset}. Take the metric auc."
        raise ValueError(msg)


def _check_schedules(study: StudyConfig) -> None:
    searched = study.space.domains.get("scheduler.name")
    if "plateau" in (study.base.scheduler.name, *(searched.extremes() if searched else ())):
        msg = "A study's learning rate must not follow the validation score, got the scheduler plateau: the winner is"
        raise ValueError(f"{msg} trained without validation. Take another scheduler.")


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
