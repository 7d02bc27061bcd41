"""Search algorithms and schedulers of Ray Tune and Optuna, as a study configures them."""

from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune import Stopper
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from luna_pipeline.tuning.records import TrialRecords
from luna_pipeline.tuning.space import Changes, Choices, Domain, Integers, LogUniform, SearchSpace
from luna_pipeline.tuning.study import StudyConfig, Variant

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# Values that trials report to Ray: last epoch, best score so far, error.
EPOCH, SCORE, ERROR = "epoch", "score", "error"
VARIANT = "variant"


def asked_of_ray(
    study: StudyConfig, records: TrialRecords | None = None
) -> tuple[dict[str, Any], "PromisingSearch | None"]:
    """Return Ray's parameter space, and the search algorithm if the variants are not known in advance.

    Args:
        study: Configuration of the study.
        records: Files of its trials, see ``PromisingSearch``.
    """
    variants = study.variants()
    if variants is None:
        return {}, PromisingSearch(study.space, seed=study.seed, records=records)
    return {VARIANT: tune.grid_search([plain_variant(variant) for variant in variants])}, None


def scheduler_of(study: StudyConfig) -> TrialScheduler:
    """Return the scheduler, which stops trials."""
    if study.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return AsyncHyperBandScheduler(
        time_attr=EPOCH,
        metric=SCORE,
        mode="max",
        max_t=study.epochs,
        reduction_factor=study.reduction_factor,
        grace_period=min(study.grace_epochs, study.epochs),
    )


def plain_variant(variant: Variant) -> dict[str, Any]:
    """Return a variant as plain values for Ray."""
    return {"trial": variant.trial, "changes": variant.changes}


def variant_of(config: dict[str, Any]) -> Variant:
    """Return the variant of a Ray trial."""
    return Variant(config[VARIANT]["trial"], config[VARIANT]["changes"])


class EpochBudget(Stopper):
    """Ends a study after a number of epochs of all trials."""

    def __init__(self, total_epochs: int) -> None:
        self._left = total_epochs

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Count an epoch, unless the trial failed."""
        self._left -= 0 if result.get(ERROR) else 1
        return False

    def stop_all(self) -> bool:
        """Return whether the budget is used up."""
        return self._left <= 0


class PromisingSearch(OptunaSearch):
    """Optuna's tree-structured Parzen estimator with numbered trials, of which the first is the unchanged recipe."""

    def __init__(self, space: SearchSpace, *, seed: int, records: TrialRecords | None = None) -> None:
        """Set up the search.

        Args:
            space: Values that are searched.
            seed: Seed of Optuna's sampler.
            records: Files of the study's trials; numbers that a killed driver has used are not used again.
        """
        self._records = records
        self._domains = dict(space.domains)
        self._next = 0
        self._unchanged: str | None = None
        super().__init__(
            {place: distribution_of(domain) for place, domain in self._domains.items()},
            metric=SCORE,
            mode="max",
            seed=seed,
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next variant."""
        if self._next == 0:
            self._unchanged = trial_id
            changes: Changes = {}
        else:
            found = super().suggest(trial_id)
            if found is None:
                return None
            changes = {place: decoded(domain, found[place]) for place, domain in self._domains.items()}
        number = self._next if self._records is None else max(self._next, self._records.next_number())
        variant = Variant(number, changes)
        self._next = number + 1
        return {VARIANT: plain_variant(variant)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report to Optuna, unless it is the unchanged recipe."""
        if trial_id != self._unchanged:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Report to Optuna, unless it is the unchanged recipe."""
        if trial_id != self._unchanged:
            super().on_trial_complete(trial_id, result, error)


def distribution_of(domain: Domain) -> "BaseDistribution":
    """Return the Optuna distribution of a domain; choices are represented by their positions."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Choices):
        return CategoricalDistribution(tuple(range(len(domain.values))))
    if isinstance(domain, Integers):
        return IntDistribution(domain.low, domain.high)
    return FloatDistribution(float(domain.low), float(domain.high), log=isinstance(domain, LogUniform))


def decoded(domain: Domain, told: Any) -> Any:
    """Return the value of an Optuna parameter."""
    return domain.values[told] if isinstance(domain, Choices) else told


def encoded(domain: Domain, value: Any) -> Any:
    """Return the Optuna parameter of a value."""
    return domain.values.index(value) if isinstance(domain, Choices) else value
