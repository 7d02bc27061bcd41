"""Dagster config of the asset that searches and scores the scans of a test fold."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from luna_pipeline.assets.draws import DrawsConfig
from luna_pipeline.assets.training_config import Fold, check_folds
from luna_pipeline.choices import names_of
from luna_pipeline.core.diagnosis.recipes import DIAGNOSIS_RECIPES

if TYPE_CHECKING:
    from luna_pipeline.core.diagnosis.recipes import DiagnosisRecipe

DiagnosisRecipeName: Any = names_of(DIAGNOSIS_RECIPES)


class DetectionConfig(DrawsConfig):
    """How the scans are searched, and the intervals of the score."""

    recipe: DiagnosisRecipeName = Field(
        default="default", description="How CTs are searched, by name: core/diagnosis/recipes.py, or of your extension."
    )
    changes: dict[str, Any] = Field(default={}, description="Changes to the recipe, such as `merge_mm: 4.0`.")
    device: str | None = Field(
        default=None,
        description="Where the networks compute: `cpu`, `cuda` or `cuda:1`. Default: a GPU where there is one.",
    )

    def diagnosis_recipe(self) -> "DiagnosisRecipe":
        """Return the recipe with the changes."""
        from luna_pipeline.core.diagnosis.recipes import diagnosis_recipe
        from luna_pipeline.extensions import load_extensions

        load_extensions()
        return diagnosis_recipe(self.recipe).with_changes(self.changes)

    def check_values(self) -> None:
        """Raise a ValueError or TypeError if the recipe or a change is not allowed."""
        self.diagnosis_recipe()


class DetectionFolds(DetectionConfig):
    """Test folds whose scans are searched."""

    folds: list[Fold] = Field(
        default=[],
        description="Test folds whose scans are searched, such as `[0]`. Default: all that have a segmenter.",
    )

    def check_values(self) -> None:
        """Raise a ValueError or TypeError if the recipe, a change or a fold is not allowed."""
        check_folds(self.folds)
        super().check_values()

    def of_each_fold(self) -> dict[str, Any]:
        """Return the config of each fold's run."""
        return self.model_dump(exclude={"folds"}, exclude_none=True)
