"""Dagster's config of a study."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from luna_pipeline.assets.recipe_fields import recipe_config
from luna_pipeline.assets.training_config import ChosenFolds, RecipeConfig
from luna_pipeline.options import options_of
from luna_pipeline.tuning.options import TuningOptions

if TYPE_CHECKING:
    from luna_pipeline.tuning.resources import TrialResources
    from luna_pipeline.tuning.study import StudyConfig


_Options: Any = recipe_config(TuningOptions, asset="nodule_classifier", recipe="nodule_baseline", has_parts=False)


class TuningConfig(_Options, RecipeConfig):  # type: ignore[misc]
    """A recipe, the search for a better one, and the resources of its trials."""

    places: dict[str, Any] = Field(
        default={},
        description="Search space, used instead of `space`: `optimizer.learning_rate: {log_uniform: [0.0001, 0.01]}`.",
    )
    num_bootstraps: int = Field(
        default=1000, ge=1, description="Bootstrap samples of scans for the comparison of the winner with the recipe."
    )

    def check_values(self) -> None:
        """Raise a ValueError or TypeError if recipe, change, fold, search space or resources are not allowed."""
        super().check_values()
        self.study(test_fold=0)
        self.resources()

    def study(self, *, test_fold: int) -> "StudyConfig":
        """Return the study of a fold.

        Raises:
            ValueError: If it is not allowed.
        """
        return self._options().study(self.training_config(test_fold=test_fold), self.places)

    def resources(self) -> "TrialResources":
        """Return the resources of each trial."""
        return self._options().resources()

    def _options(self) -> TuningOptions:
        return options_of(TuningOptions, self.model_dump())


class TuningFolds(ChosenFolds, TuningConfig):
    """A study for each of these folds."""
