"""What the launchpad asks of a training asset, and how it becomes the configuration of a run."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from luna_pipeline.core.datasets.splits import TrainingSplit
    from luna_pipeline.core.training.config import StartConfig, TrainingConfig


class HeldOutFolds(dg.Config):
    """Which folds stay out of training."""

    test_fold: int | None = Field(default=None, description="Untouched until the report; default: the first fold.")
    validation_fold: int | None = Field(
        default=None,
        description="Chooses epoch and threshold; default: the fold after the test fold, none if there are two.",
    )

    def split_of(self, index: Any) -> "TrainingSplit":
        """Name the held-out folds of an index."""
        from luna_pipeline.core.datasets.splits import default_split

        return default_split(index, test_fold=self.test_fold, validation_fold=self.validation_fold)


class NoduleTrainingConfig(HeldOutFolds):
    """A recipe and what this run changes in it, or a whole configuration."""

    recipe: str = Field(default="nodule_baseline", description="A function of core/training/recipes.py.")
    version: str | None = Field(
        default=None,
        description="Never overwritten: where it exists, the next build is written. Default: the recipe's.",
    )
    epochs: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    changes: dict[str, Any] = Field(
        default={}, description="Further values by their places, such as `network.dropout_rate: 0.4`."
    )
    configuration: dict[str, Any] = Field(
        default={}, description="A whole configuration (`TrainingConfig.to_dict`) in the recipe's place."
    )
    start_loader: str = Field(default="file", description="Where the weights to begin with are: `file` or `mlflow`.")
    start_name: str | None = Field(default=None, description="The run whose weights to begin with; default: new ones.")
    start_version: str | None = Field(default=None, description="Its version.")
    head_only: bool | None = Field(
        default=None, description="Whether the last layer alone learns; default: where the question is another one."
    )
    profile: bool = Field(default=False, description="Trace some training steps.")
    processes: int = Field(default=1, description="More than one train together, started by torchrun.")

    def training_config(self) -> "TrainingConfig":
        """Return the complete configuration of the run."""
        from luna_pipeline.core.training.config import TrainingConfig
        from luna_pipeline.core.training.recipes import recipe_by_name
        from luna_pipeline.extensions import load_extensions

        load_extensions()
        changes = {
            "num_epochs": self.epochs, "batch_size": self.batch_size, "seed": self.seed, "version": self.version,
            **self.changes,
        }  # fmt: skip
        config = TrainingConfig.from_dict(self.configuration) if self.configuration else recipe_by_name(self.recipe)
        return config.with_changes({place: value for place, value in changes.items() if value is not None})

    def start(self) -> "StartConfig | None":
        """Return the run to begin with, None where weights are new or ``configuration`` names it."""
        from luna_pipeline.core.training.config import StartConfig

        if self.start_name is None:
            return None
        return StartConfig(loader=self.start_loader, name=self.start_name, version=self.start_version)


class MalignancyTrainingConfig(NoduleTrainingConfig):
    """The same, of the malignancy classifier."""

    recipe: str = Field(default="malignancy_baseline", description="A function of core/training/recipes.py.")
