"""Dagster config of the diagnosis of incoming series."""

from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

from luna_pipeline.choices import names_of
from luna_pipeline.core.diagnosis.recipes import DIAGNOSIS_RECIPES

if TYPE_CHECKING:
    from luna_pipeline.launchers.diagnosis.incoming_diagnosis import ModelChoice

DiagnosisRecipeName: Any = names_of(DIAGNOSIS_RECIPES)
_ADDRESS = "`NAME`, `NAME VERSION`, `models:/NAME@ALIAS`, `models:/NAME/VERSION` or a `.pt` file"
_DEFAULT = "Default: MLflow's champion, else the newest trained one, else the book's imported one."


class DiagnosisConfig(dg.Config):
    """How CTs are searched, by which models, and which series."""

    recipe: DiagnosisRecipeName = Field(
        default="default", description="How CTs are searched, by name: core/diagnosis/recipes.py, or of your extension."
    )
    changes: dict[str, Any] = Field(default={}, description="Changes to the recipe, such as `merge_mm: 4.0`.")
    segmenter: str | None = Field(default=None, description=f"The segmenter: {_ADDRESS}. {_DEFAULT}")
    classifier: str | None = Field(default=None, description=f"The nodule classifier, as `segmenter`. {_DEFAULT}")
    malignancy: str | None = Field(
        default=None, description="The malignancy classifier, as `segmenter`. Default: ours, if there is one."
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where the networks compute.")
    only_outdated: bool = Field(
        default=False,
        description="Without a partition: also series whose diagnosis was made with another recipe or other models, "
        "such as an earlier champion. With partitions: only such series, and those without a diagnosis.",
    )

    def choice(self) -> "ModelChoice":
        """Return recipe, models and device."""
        from luna_pipeline.core.diagnosis.recipes import diagnosis_recipe
        from luna_pipeline.extensions import load_extensions
        from luna_pipeline.launchers.diagnosis.incoming_diagnosis import ModelChoice

        load_extensions()
        recipe = diagnosis_recipe(self.recipe).with_changes(self.changes)
        models = {"segmenter": self.segmenter, "classifier": self.classifier, "malignancy": self.malignancy}
        return ModelChoice(recipe=recipe, device=self.device, **models)

    def check_values(self) -> None:
        """Raise a ValueError or TypeError if the recipe or a change is not allowed."""
        self.choice()
