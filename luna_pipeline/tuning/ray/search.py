"""Who says what is tried next, and who stops what falls behind: Ray's and Optuna's, as a study asks for them."""

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

# What trials hand to Ray: how far they are, the best score so far, and why they failed.
EPOCH, SCORE, ERROR = "epoch", "score", "error"
VARIANT = "variant"


def asked_of_ray(
    study: StudyConfig, records: TrialRecords | None = None
) -> tuple[dict[str, Any], "PromisingSearch | None"]:
    """Return what Ray goes through, and who tells what comes next where that is not known beforehand.

    Args:
        study: What is searched.
        records: Of its trials, see ``PromisingSearch``.
    """
    variants = study.variants()
    if variants is None:
        return {}, PromisingSearch(study.space, seed=study.seed, records=records)
    return {VARIANT: tune.grid_search([plain_variant(variant) for variant in variants])}, None


def scheduler_of(study: StudyConfig) -> TrialScheduler:
    """Return who stops trials."""
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
    """Return a variant as Ray carries it."""
    return {"trial": variant.trial, "changes": variant.changes}


def variant_of(config: dict[str, Any]) -> Variant:
    """Return the variant that a trial of Ray is to try."""
    return Variant(config[VARIANT]["trial"], config[VARIANT]["changes"])


class EpochBudget(Stopper):
    """Ends a study after so many epochs of all trials together."""

    def __init__(self, total_epochs: int) -> None:
        self._left = total_epochs

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Count an epoch; a trial that failed has done none."""
        self._left -= 0 if result.get(ERROR) else 1
        return False

    def stop_all(self) -> bool:
        """Say whether nothing is left."""
        return self._left <= 0


class PromisingSearch(OptunaSearch):
    """Optuna's tree of Parzen estimators, with numbered trials of which the first is the recipe as it is."""

    def __init__(self, space: SearchSpace, *, seed: int, records: TrialRecords | None = None) -> None:
        """Begin with the recipe as it is.

        Args:
            space: What is searched.
            seed: Of Optuna's draws.
            records: Of the study's trials. What a killed driver had asked for and not noted keeps its number.
        """
        self._records = records
        self._domains = dict(space.domains)
        self._next = 0
        self._asked_nobody: str | None = None
        super().__init__(
            {place: distribution_of(domain) for place, domain in self._domains.items()},
            metric=SCORE,
            mode="max",
            seed=seed,
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return what to try next."""
        if self._next == 0:
            self._asked_nobody = trial_id
            changes: Changes = {}
        else:
            told = super().suggest(trial_id)
            if told is None:
                return None
            changes = {place: decoded(domain, told[place]) for place, domain in self._domains.items()}
        number = self._next if self._records is None else max(self._next, self._records.next_number())
        variant = Variant(number, changes)
        self._next = number + 1
        return {VARIANT: plain_variant(variant)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell Optuna, if it was asked for this one."""
        if trial_id != self._asked_nobody:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna, if it was asked for this one."""
        if trial_id != self._asked_nobody:
            super().on_trial_complete(trial_id, result, error)


def distribution_of(domain: Domain) -> "BaseDistribution":
    """Return Optuna's form of a domain; of choices it knows the places only."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Choices):
        return CategoricalDistribution(tuple(range(len(domain.values))))
    if isinstance(domain, Integers):
        return IntDistribution(domain.low, domain.high)
    return FloatDistribution(float(domain.low), float(domain.high), log=isinstance(domain, LogUniform))


def decoded(domain: Domain, told: Any) -> Any:
    """Return the value that Optuna means."""
    return domain.values[told] if isinstance(domain, Choices) else told


def encoded(domain: Domain, value: Any) -> Any:
    """Return what Optuna calls a value."""
    return domain.values.index(value) if isinstance(domain, Choices) else value
