"""Options of a study, the same for the command line and Dagster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luna_pipeline.options import option

if TYPE_CHECKING:
    from luna_pipeline.core.training.config import TrainingConfig
    from luna_pipeline.tuning.resources import TrialResources
    from luna_pipeline.tuning.study import StudyConfig

SEARCHERS, SCHEDULERS, METRICS = ("grid", "random", "optuna"), ("asha", "none"), ("cpm", "auc")
DEFAULT_TRIALS = 16


@dataclass(frozen=True, kw_only=True)
class TuningOptions:
    """What is searched, by which score, for how long, and the resources of a trial."""

    epochs: int | None = option(None, "Epochs of a trial that is not stopped early. Default: the recipe's.", at_least=1)
    trials: int | None = option(
        None, "Number of trials, including the unchanged recipe. Default: 16; a grid: all combinations.", at_least=2
    )
    total_epochs: int | None = option(
        None, "End the study after this many epochs of all trials. Default: no limit.", at_least=1
    )
    total_seconds: float | None = option(
        None, "End the study after this many seconds. Default: no limit.", flag="--seconds", above=0
    )
    space: str = option("learning", "Search space: a name (docs/how_to/tune.md) or a JSON file.")
    search: str = option("random", "Search algorithm: `grid`, `random` or `optuna`.", choices=SEARCHERS)
    scheduler: str = option("asha", "`asha` stops trials with low scores early, `none` does not.", choices=SCHEDULERS)
    metric: str | None = option(
        None, "Validation score to maximise. Default: cpm for nodules, auc for malignancy.", choices=METRICS
    )
    grace_epochs: int = option(1, "`asha` stops no trial before this epoch.", at_least=1)
    reduction_factor: int = option(3, "`asha` continues one of this many trials at each step.", at_least=2)
    seed: int = option(0, "Seed of the search.", at_least=0)
    cpus_per_trial: int = option(1, "CPUs of a trial.", flag="--cpus", at_least=1)
    gpus_per_trial: float | None = option(
        None, "GPUs of a trial. Default: one where a GPU is available.", flag="--gpus", at_least=0
    )
    max_concurrent: int | None = option(
        None, "Trials at the same time. Default: as many as the resources allow.", flag="--concurrent", at_least=1
    )
    max_restarts: int = option(3, "How often a trial is restarted after its process died.", at_least=0)

    def study(self, base: "TrainingConfig", places: Mapping[str, Any] | None = None) -> "StudyConfig":
        """Return the study that these options describe.

        Args:
            base: The configuration to improve.
            places: A search space in its plain form, used instead of ``space``.

        Raises:
            ValueError: If the study is not allowed.
            TypeError: If a value is of the wrong kind.
        """
        from luna_pipeline.tuning.space import SearchSpace, read_space
        from luna_pipeline.tuning.study import StudyConfig

        has_default_trials = self.trials is None and self.search != "grid"
        return StudyConfig(
            base=base,
            space=SearchSpace.from_dict(places) if places else read_space(self.space),
            searcher=self.search,  # type: ignore[arg-type]  # checked there, as are scheduler and metric
            scheduler=self.scheduler,  # type: ignore[arg-type]
            metric=("cpm" if base.dataset == "cutouts" else "auc") if self.metric is None else self.metric,  # type: ignore[arg-type]
            num_trials=DEFAULT_TRIALS if has_default_trials else self.trials,
            num_epochs=self.epochs,
            total_epochs=self.total_epochs,
            total_seconds=self.total_seconds,
            grace_epochs=self.grace_epochs,
            reduction_factor=self.reduction_factor,
            seed=self.seed,
        )

    def resources(self) -> "TrialResources":
        """Return the resources of each trial."""
        from luna_pipeline.tuning.resources import TrialResources

        return TrialResources(
            cpus=self.cpus_per_trial,
            gpus=self.gpus_per_trial,
            max_concurrent=self.max_concurrent,
            max_restarts=self.max_restarts,
        )
