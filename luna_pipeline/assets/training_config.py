"""Dagster config of the assets that train and predict, and its translation into a run's configuration."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import dagster as dg
from pydantic import Field

from luna_pipeline.assets.recipe_fields import OF_RECIPE, PARTS, recipe_config
from luna_pipeline.choices import names_of
from luna_pipeline.core.baselines.config import ESTIMATORS
from luna_pipeline.options import TrainingOptions, options_of

if TYPE_CHECKING:
    from luna_pipeline.core.datasets.splits import TrainingSplit
    from luna_pipeline.core.training.config import StartConfig, TrainingConfig
    from luna_pipeline.settings import Settings


Fold = Annotated[int, Field(ge=0)]
Estimator: Any = names_of(ESTIMATORS)


def check_folds(folds: list[int]) -> None:
    """Raise a ValueError if the data have no such fold; folds of data that were never ingested are not checked."""
    from luna_pipeline.core.storage.files import exists
    from luna_pipeline.launchers.installation import read_table
    from luna_pipeline.settings import Settings

    settings, known = Settings.from_environment(), set[int]()
    for name in ("folds", "cutout_index") if folds else ():
        if exists(settings.tables_dir / f"{name}.parquet"):
            known.update(map(int, read_table(settings, name, columns=["fold"])["fold"]))
    if known and (unknown := sorted(set(folds) - known)):
        msg = f"A held-out fold must exist, got {unknown[0]} of folds {sorted(known)}. Choose one of them."
        raise ValueError(msg)


class HeldOutFolds(dg.Config):
    """Folds left out of training; the test fold is the partition."""

    validation_fold: int | None = Field(
        default=None,
        ge=0,
        description="Fold that selects epoch and threshold. Default: the one after the test fold; none of two.",
    )

    def split_of(self, index: Any, *, test_fold: int) -> "TrainingSplit":
        """Return the held-out folds of an index."""
        from luna_pipeline.core.datasets.splits import default_split

        return default_split(index, test_fold=test_fold, validation_fold=self.validation_fold)

    def check_values(self) -> None:
        """Raise a ValueError if the data have no such fold."""
        if self.validation_fold is not None:
            check_folds([self.validation_fold])


class RecipeConfig(HeldOutFolds):
    """A recipe and changes to it, or a complete configuration."""

    recipe: str
    version: str | None = Field(
        default=None,
        description="Version of the run; the test fold is appended: `0.0.1-fold3`. An existing version is not "
        "overwritten: the next build is written. Default: the recipe's.",
    )
    changes: dict[str, Any] = Field(
        default={}, description="Changes to the recipe by path, such as `network.dropout_rate: 0.4`."
    )
    configuration: dict[str, Any] = Field(
        default={}, description="A complete configuration (`TrainingConfig.to_dict`), used instead of a recipe."
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

    def check_values(self) -> None:
        """Raise a ValueError or TypeError if the recipe, a change or a fold is not allowed."""
        super().check_values()
        self.training_config(test_fold=0)

    def own_changes(self) -> dict[str, Any]:
        """Return changes that have their own config fields, by path; None keeps the recipe's value."""
        return {}


class WeightsConfig(RecipeConfig):
    """A recipe, changes to it, and the weights to start from."""

    profile: bool
    start_loader: Literal["file", "mlflow"] = Field(
        default="file", description="Where the initial weights are: a checkpoint file, or a model in MLflow."
    )
    start_name: str | None = Field(
        default=None,
        description="Model whose weights are loaded, such as `nodule_classifier`. Default: random weights.",
    )
    start_version: str | None = Field(
        default=None, description="Version of that run. From a file: its version for the same test fold is preferred."
    )
    head_only: bool | None = Field(
        default=None, description="Train only the last layer. Default: only if the initial weights are of another task."
    )
    processes: int = Field(
        default=1, ge=1, description="Number of training processes; several, as one per GPU, are started by torchrun."
    )

    def own_changes(self) -> dict[str, Any]:
        """Return epochs, batch size, seed and the parts that are chosen by name."""
        chosen = {place: getattr(self, name) for name, (place, *_) in PARTS.items()}
        parts = {place: name for place, name in chosen.items() if name != OF_RECIPE}
        return {**options_of(TrainingOptions, self.model_dump()).changes, **parts}

    def start(self, settings: "Settings", *, test_fold: int) -> "StartConfig | None":
        """Return the run to start from; None for random weights or if ``configuration`` names it."""
        from luna_pipeline.core.training.config import StartConfig
        from luna_pipeline.launchers.training.initial_weights import full_name
        from luna_pipeline.launchers.versions import own_version

        if self.start_name is None:
            return None
        name, version = full_name(self.start_name), self.start_version
        if version is not None and self.start_loader == "file":
            version = own_version(settings, name, version, fold=test_fold)
        return StartConfig(loader=self.start_loader, name=name, version=version)


# Made of a dataclass, the registries and the recipes.
_Nodule: Any = recipe_config(TrainingOptions, asset="nodule_classifier", recipe="nodule_baseline")
_Malignancy: Any = recipe_config(TrainingOptions, asset="malignancy_classifier", recipe="malignancy_baseline")
_Segmenter: Any = recipe_config(TrainingOptions, asset="nodule_segmenter", recipe="segmenter_baseline")


class NoduleTrainingConfig(_Nodule, WeightsConfig):  # type: ignore[misc]
    """A recipe of the nodule classifier, changes to it, and the weights to start from."""


class MalignancyTrainingConfig(_Malignancy, WeightsConfig):  # type: ignore[misc]
    """A recipe of the malignancy classifier, changes to it, and the weights to start from."""


class SegmenterTrainingConfig(_Segmenter, WeightsConfig):  # type: ignore[misc]
    """A recipe of the segmenter, changes to it, and the weights to start from."""


class ChosenFolds(dg.Config):
    """Test folds for which a job trains."""

    folds: list[Fold] = Field(
        default=[],
        description="Test folds, each trained in a separate run. Default: the first fold. `evaluate` pools all folds "
        "trained with one recipe on one cutout index, including folds trained earlier.",
    )
    all_folds: bool = Field(default=False, description="Train every fold (cross-validation) if `folds` is empty.")

    def check_values(self) -> None:
        """Raise a ValueError or TypeError if a value or a fold is not allowed, or a fold is held out twice."""
        check_folds(self.folds)
        validation_fold = getattr(self, "validation_fold", None)
        is_every_fold = self.all_folds and not self.folds
        if validation_fold is not None and (is_every_fold or validation_fold in self.folds):
            msg = f"Test and validation must be two folds, got {validation_fold} for both. Choose another fold for one."
            raise ValueError(msg)
        super().check_values()  # type: ignore[misc]  # the other base of each subclass has it

    def of_each_fold(self) -> dict[str, Any]:
        """Return the config of each fold's run: all fields except the choice of folds."""
        return self.model_dump(exclude=set(ChosenFolds.model_fields), exclude_none=True)


class NoduleFolds(ChosenFolds, NoduleTrainingConfig):
    """A run of the nodule classifier for each of these folds."""


class AllNoduleFolds(NoduleFolds):
    """Runs of the nodule classifier for every fold by default."""

    folds: list[Fold] = Field(
        default=[], description="Test folds, each trained in a separate run. Default: every fold (cross-validation)."
    )
    all_folds: bool = Field(default=True, description="Train every fold (cross-validation) if `folds` is empty.")


class MalignancyFolds(ChosenFolds, MalignancyTrainingConfig):
    """A run of the malignancy classifier for each of these folds."""


class SegmenterFolds(ChosenFolds, SegmenterTrainingConfig):
    """A run of the segmenter for each of these folds."""


class BaselineConfig(HeldOutFolds):
    """Feature classifiers to fit, and their held-out folds."""

    estimators: list[Estimator] = Field(
        default=["logistic_regression", "gradient_boosting"],
        min_length=1,
        description="Feature classifiers to fit, one model each.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the classifiers: the same seed gives the same scores.")

    def check_values(self) -> None:
        """Raise a ValueError if an estimator or a fold does not exist."""
        from luna_pipeline.extensions import load_extensions

        super().check_values()
        load_extensions()
        for name in self.estimators:
            ESTIMATORS.check(name)


class PredictionConfig(dg.Config):
    """Classifiers that score the test fold in addition to the trained one."""

    also: list[str] = Field(
        default=[],
        description="Further checkpoints, such as an imported classifier: `NAME` for the newest version, or `NAME "
        "VERSION`; the version of the same fold (`VERSION-fold3`) is preferred.",
    )
