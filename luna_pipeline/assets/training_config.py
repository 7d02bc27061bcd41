"""What the launchpad asks of assets that train and predict, and how it becomes the configuration of a run."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from luna_pipeline.core.datasets.splits import TrainingSplit
    from luna_pipeline.core.training.config import StartConfig, TrainingConfig
    from luna_pipeline.settings import Settings


class HeldOutFolds(dg.Config):
    """Which fold stays out of training beside the test fold, which is the partition."""

    validation_fold: int | None = Field(
        default=None,
        description="Chooses epoch and threshold; default: the fold after the test fold, none if there are two.",
    )

    def split_of(self, index: Any, *, test_fold: int) -> "TrainingSplit":
        """Name the held-out folds of an index."""
        from luna_pipeline.core.datasets.splits import default_split

        return default_split(index, test_fold=test_fold, validation_fold=self.validation_fold)


class RecipeConfig(HeldOutFolds):
    """A recipe and what this run changes in it, or a whole configuration."""

    recipe: str = Field(default="nodule_baseline", description="A function of core/training/recipes.py.")
    version: str | None = Field(
        default=None,
        description="The run is called by it and by its test fold, such as `0.0.1-fold3`. Never overwritten: where "
        "it exists, the next build is written. Default: the recipe's.",
    )
    changes: dict[str, Any] = Field(
        default={}, description="Further values by their places, such as `network.dropout_rate: 0.4`."
    )
    configuration: dict[str, Any] = Field(
        default={}, description="A whole configuration (`TrainingConfig.to_dict`) in the recipe's place."
    )

    def training_config(self, *, test_fold: int) -> "TrainingConfig":
        """Return the complete configuration of a fold's run."""
        from luna_pipeline.core.training.config import TrainingConfig
        from luna_pipeline.core.training.recipes import recipe_by_name
        from luna_pipeline.extensions import load_extensions
        from luna_pipeline.launchers.versions import fold_version

        load_extensions()
        changes = {"version": self.version, **self.own_changes(), **self.changes}
        config = TrainingConfig.from_dict(self.configuration) if self.configuration else recipe_by_name(self.recipe)
        config = config.with_changes({place: value for place, value in changes.items() if value is not None})
        return config.with_changes(version=fold_version(config.version, test_fold))

    def own_changes(self) -> dict[str, Any]:
        """Return values of the configuration that have a field of their own, by place; None leaves one as it is."""
        return {}


class NoduleTrainingConfig(RecipeConfig):
    """A recipe and how it is trained."""

    epochs: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    start_loader: str = Field(default="file", description="Where the weights to begin with are: `file` or `mlflow`.")
    start_name: str | None = Field(default=None, description="The run whose weights to begin with; default: new ones.")
    start_version: str | None = Field(
        default=None, description="Its version; of a file, what was trained for the same test fold where there is one."
    )
    head_only: bool | None = Field(
        default=None, description="Whether the last layer alone learns; default: where the question is another one."
    )
    profile: bool = Field(default=False, description="Trace some training steps.")
    processes: int = Field(default=1, description="More than one train together, started by torchrun.")

    def own_changes(self) -> dict[str, Any]:
        """Return epochs, batch size and seed."""
        return {"num_epochs": self.epochs, "batch_size": self.batch_size, "seed": self.seed}

    def start(self, settings: "Settings", *, test_fold: int) -> "StartConfig | None":
        """Return the run to begin with, None where weights are new or ``configuration`` names it."""
        from luna_pipeline.core.training.config import StartConfig
        from luna_pipeline.launchers.training.initial_weights import full_name
        from luna_pipeline.launchers.versions import own_version

        if self.start_name is None:
            return None
        name, version = full_name(self.start_name), self.start_version
        if version is not None and self.start_loader == "file":
            version = own_version(settings, name, version, fold=test_fold)
        return StartConfig(loader=self.start_loader, name=name, version=version)


class MalignancyTrainingConfig(NoduleTrainingConfig):
    """The same, of the malignancy classifier."""

    recipe: str = Field(default="malignancy_baseline", description="A function of core/training/recipes.py.")


class ChosenFolds(dg.Config):
    """For which test folds a job trains."""

    folds: list[int] = Field(
        default=[],
        description="Test folds, each trained as a run of its own; default: the first fold of the data. Folds of one "
        "recipe and one cutout index are pooled by `evaluate`, also those that were trained before.",
    )
    all_folds: bool = Field(
        default=False, description="Where `folds` names none: every fold of the data in turn, cross-validation."
    )

    def of_each_fold(self) -> dict[str, Any]:
        """Return the configuration of each fold's run: all values but the choice of folds."""
        return self.model_dump(exclude=set(ChosenFolds.model_fields), exclude_none=True)


class NoduleFolds(ChosenFolds, NoduleTrainingConfig):
    """A run of the nodule classifier for each of these folds."""


class AllNoduleFolds(NoduleFolds):
    """The same, for every fold unless told otherwise."""

    all_folds: bool = Field(
        default=True, description="Where `folds` names none: every fold of the data in turn, cross-validation."
    )


class MalignancyFolds(ChosenFolds, MalignancyTrainingConfig):
    """A run of the malignancy classifier for each of these folds."""


class BaselineConfig(HeldOutFolds):
    """Which classifiers of features are fitted, and what they may not see."""

    estimators: list[str] = Field(
        default=["logistic_regression", "gradient_boosting"], description="Names of core/models/baselines.ESTIMATORS."
    )
    seed: int = Field(default=0, description="Of whatever a classifier draws.")


class PredictionConfig(dg.Config):
    """Which classifiers score the test fold beside the trained one."""

    also: list[str] = Field(
        default=[],
        description="Further checkpoints, such as an imported classifier: `NAME` for its newest version, or `NAME "
        "VERSION`, for which the fold's own `VERSION-fold3` counts where it is there.",
    )
