"""What the launchpad asks of a study."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from luna_pipeline.assets.training_config import ChosenFolds, RecipeConfig

if TYPE_CHECKING:
    from luna_pipeline.tuning.resources import TrialResources
    from luna_pipeline.tuning.study import StudyConfig


class TuningConfig(RecipeConfig):
    """What is searched, by what score, how long, and what each trial gets."""

    space: str = Field(
        default="learning", description="A search space by its name, see docs/tuning.md, or a JSON file."
    )
    places: dict[str, Any] = Field(
        default={},
        description="A space in the name's place, such as `optimizer.learning_rate: {log_uniform: [0.0001, 0.01]}`.",
    )
    search: str = Field(default="random", description="`grid`, `random` or `optuna`.")
    scheduler: str = Field(default="asha", description="`asha` stops trials that fall behind, `none` does not.")
    metric: str | None = Field(default=None, description="`cpm` or `auc` of the validation fold. Default: cpm.")
    trials: int | None = Field(
        default=None, description="With the recipe as it is. Default: 16; a grid counts its own."
    )
    epochs: int | None = Field(default=None, description="Of a trial that is not stopped. Default: the recipe's.")
    total_epochs: int | None = Field(default=None, description="So many of all trials together end the study.")
    total_seconds: float | None = Field(default=None, description="So many end the study.")
    grace_epochs: int = Field(default=1, description="`asha` stops no trial before so many epochs.")
    reduction_factor: int = Field(default=3, description="`asha` lets one trial of so many go on.")
    seed: int = Field(default=0, description="Of the draws.")
    cpus_per_trial: int = 1
    gpus_per_trial: float | None = Field(default=None, description="Default: one where there is any.")
    max_concurrent: int | None = Field(default=None, description="Trials at once. Default: as there is room for.")
    max_restarts: int = Field(default=3, description="How often a trial that lost its process is taken up again.")
    num_bootstraps: int = Field(default=1000, description="Draws of scans by which winner and recipe are compared.")

    def study(self, *, test_fold: int) -> "StudyConfig":
        """Return the study of a fold.

        Raises:
            ValueError: If it is not allowed.
        """
        from luna_pipeline.tuning.study import study_of

        return study_of(
            self.training_config(test_fold=test_fold),
            space=self.places or self.space,
            searcher=self.search,
            scheduler=self.scheduler,
            metric=self.metric,
            num_trials=self.trials,
            num_epochs=self.epochs,
            total_epochs=self.total_epochs,
            total_seconds=self.total_seconds,
            grace_epochs=self.grace_epochs,
            reduction_factor=self.reduction_factor,
            seed=self.seed,
        )

    def resources(self) -> "TrialResources":
        """Return what each trial gets."""
        from luna_pipeline.tuning.resources import TrialResources

        return TrialResources(
            cpus=self.cpus_per_trial,
            gpus=self.gpus_per_trial,
            max_concurrent=self.max_concurrent,
            max_restarts=self.max_restarts,
        )


class TuningFolds(ChosenFolds, TuningConfig):
    """A study for each of these folds."""
