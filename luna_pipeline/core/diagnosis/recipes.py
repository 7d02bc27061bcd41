"""Recipes of a diagnosis: how a CT is searched, as values; ``with_changes`` returns a variant."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from luna_pipeline.core.config.checks import check_choice, check_flag, check_integer, check_number
from luna_pipeline.core.config.plain import changed, from_plain
from luna_pipeline.core.config.registry import Registry

_HERE = "luna_pipeline.core.diagnosis.recipes"
DIAGNOSIS_RECIPES: Registry[Any] = Registry(
    "diagnosis recipe", {"default": f"{_HERE}:default", "book": f"{_HERE}:book"}
)
EDGE_RULES = ("pad", "shift")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisRecipe:
    """How a CT is searched: everything but the models that affects the result.

    Attributes:
        name: Name of the recipe.
        lungs_only: Whether only the lungs and their margin are searched.
        lung_margin_mm: Width of the searched margin around the lungs.
        overlap: Overlap of neighbouring windows of a volume network, as a share of their length.
        segmentation_threshold: Voxels with a larger segmentation score belong to a finding.
        erosion_voxels: Number of erosions before components are formed.
        centers_by_density: Whether voxels count by their density (HU + 1001, within -1000 to 1000 HU) in the centre of
            a finding, instead of equally.
        merge_mm: Findings whose surfaces are nearer to each other are one; 0 merges none.
        min_diameter_mm: Smaller findings are dropped.
        max_findings: Largest number of findings of a CT; those with the highest segmentation scores are kept.
        edge_rule: Cutouts at the border of the CT: ``pad`` or ``shift``, see ``CuttingParameters``.
        num_flips: Number of mirrored copies of a cutout, 1 to 8, whose logits are averaged.
        mirrored_from: Score of the first, unmirrored copy from which a finding's other copies are scored; it saves
            their time for the many findings that are clearly none.
    """

    name: str = "default"
    lungs_only: bool = True
    lung_margin_mm: float = 5.0
    overlap: float = 0.25
    segmentation_threshold: float = 0.5
    erosion_voxels: int = 0
    centers_by_density: bool = False
    merge_mm: float = 2.0
    min_diameter_mm: float = 3.0
    max_findings: int = 500
    edge_rule: str = "pad"
    num_flips: int = 8
    mirrored_from: float = 0.01

    def __post_init__(self) -> None:
        check_flag("lungs_only", self.lungs_only)
        check_number("lung_margin_mm", self.lung_margin_mm, "[0, 50]")
        check_number("overlap", self.overlap, "[0, 0.9]")
        check_number("segmentation_threshold", self.segmentation_threshold, "(0, 1)")
        check_integer("erosion_voxels", self.erosion_voxels, at_least=0)
        check_flag("centers_by_density", self.centers_by_density)
        check_number("merge_mm", self.merge_mm, "[0, 10]")
        check_number("min_diameter_mm", self.min_diameter_mm, "[0, 100]")
        check_integer("max_findings", self.max_findings, at_least=1)
        check_choice("edge_rule", self.edge_rule, EDGE_RULES)
        check_integer("num_flips", self.num_flips, at_least=1, at_most=8)
        check_number("mirrored_from", self.mirrored_from, "[0, 1]")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DiagnosisRecipe":
        """Return the recipe from the values of ``to_dict``.

        Raises:
            ValueError: If a field is missing or unknown, or a value is outside its range.
            TypeError: If a value is of the wrong kind.
        """
        return from_plain(cls, values, "recipe")

    def with_changes(self, changes: Mapping[str, Any] | None = None, **more: Any) -> "DiagnosisRecipe":
        """Return a variant.

        Raises:
            ValueError: If there is no such field, or a value is outside its range.
            TypeError: If a value is of the wrong kind.
        """
        return changed(self, {**(changes or {}), **more})


def default() -> DiagnosisRecipe:
    """Return the project's recipe.

    Its values follow from definitions, and from no scan: a nodule has at least 3 mm (LUNA16), lies in the lungs or at
    their border, and looks the same in a mirror, so that the logits of all eight mirrored copies are averaged. Findings
    with less than 1 % are far from a decision and keep the score of one copy.
    """
    return DiagnosisRecipe()


def book() -> DiagnosisRecipe:
    """Return the procedure of chapter 14 of 'Deep Learning with PyTorch' (Stevens, Antiga, Viehmann, 2020).

    The whole CT is searched; one erosion, centres by density, no merging, no limit; cutouts are shifted into the CT.
    """
    return DiagnosisRecipe(
        name="book",
        lungs_only=False,
        lung_margin_mm=0.0,
        erosion_voxels=1,
        centers_by_density=True,
        merge_mm=0.0,
        min_diameter_mm=0.0,
        max_findings=1_000_000,
        edge_rule="shift",
        num_flips=1,
    )


def diagnosis_recipe(name: str) -> DiagnosisRecipe:
    """Return a registered recipe; an unknown name is a ValueError."""
    recipe: Any = DIAGNOSIS_RECIPES.get(name)()
    if not isinstance(recipe, DiagnosisRecipe):
        msg = f"A diagnosis recipe must be a function that returns a DiagnosisRecipe, got a {type(recipe).__name__}"
        raise TypeError(f'{msg} (recipe "{name}"). Fix it, see docs/how_to/extend.md.')
    return recipe
