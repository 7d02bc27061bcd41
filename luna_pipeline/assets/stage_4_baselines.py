"""Stage 4, without a network: classifiers of features that a person can check, which a network has to beat."""

import time
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from luna_pipeline.assets import markdown
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.stage_4_training import GROUP
from luna_pipeline.assets.training_config import HeldOutFolds
from luna_pipeline.resources import CutoutCutting

if TYPE_CHECKING:
    from luna_pipeline.launchers.baselines import FittedBaselines

NUM_FEATURES_SHOWN = 10


class BaselineConfig(HeldOutFolds):
    """Which classifiers of features are fitted, and what they may not see."""

    estimators: list[str] = Field(
        default=["logistic_regression", "gradient_boosting"], description="Names of core/models/baselines.ESTIMATORS."
    )
    seed: int = Field(default=0, description="Of whatever a classifier draws.")


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"python", "scikitlearn"}, code_version="1", io_manager_key="tables")
def feature_baseline(
    context: dg.AssetExecutionContext,
    config: BaselineConfig,
    cutting: CutoutCutting,
    candidates: Any,
    cutout_index: Any,
) -> dg.Output[Any]:
    """Scores of the test fold by classifiers of features: nodules against other candidates. Research use only.

    Source: cutouts as HU with their spacing. Form: as `nodule_predictions`, a row a candidate of the test fold and
    classifier. Fitted on all folds but the held-out ones; the threshold is chosen on the validation fold.
    """
    return _fitted(
        context, config, dataset="cutouts", store=cutting.store, candidates=candidates, index=cutout_index
    )  # fmt: skip


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"python", "scikitlearn"}, code_version="1", io_manager_key="tables")
def malignancy_feature_baseline(
    context: dg.AssetExecutionContext,
    config: BaselineConfig,
    cutting: CutoutCutting,
    candidates: Any,
    cutout_index: Any,
) -> dg.Output[Any]:
    """Scores of the test fold by classifiers of features: malignant nodules against all else. Research use only.

    Form: as `feature_baseline`, with class 1 for malignant nodules; nodules without a rating are left out.
    """
    return _fitted(
        context, config, dataset="malignant_cutouts", store=cutting.store, candidates=candidates, index=cutout_index
    )  # fmt: skip


def _fitted(
    context: dg.AssetExecutionContext, config: BaselineConfig, *, dataset: str, store: Any, candidates: Any, index: Any
) -> dg.Output[Any]:
    from luna_pipeline.launchers.baselines import fit_feature_baselines

    started = time.perf_counter()
    fitted = fit_feature_baselines(
        index=index, candidates=candidates, store=store, split=config.split_of(index), dataset=dataset,
        estimators=config.estimators, seed=config.seed,
        on_progress=lambda done, total: context.log.info(f"Features of {done} of {total} candidates."),
    )  # fmt: skip
    seconds = round(time.perf_counter() - started, 2)
    return dg.Output(fitted.predictions, metadata={**_metadata(fitted), "seconds": seconds})


def _metadata(fitted: "FittedBaselines") -> dict[str, Any]:
    counts = {f"num_{part}_candidates": count for part, count in fitted.num_candidates.items()}
    thresholds = {f"threshold_{baseline.model.name}": baseline.threshold for baseline in fitted.baselines}
    undefined = ", ".join(f"{name} {count}" for name, count in fitted.num_undefined.items())
    return {
        **counts,
        **thresholds,
        "candidates_per_second": round(fitted.candidates_per_second),
        "candidates_without_a_feature": undefined or "none",
        "importances": dg.MetadataValue.md(_dearest(fitted)),
        "notes": "Importances on the validation fold; research use only.",
    }


def _dearest(fitted: "FittedBaselines") -> str:
    """Return a table of what each classifier goes by, the weightiest features first."""
    tables = []
    for name, rows in fitted.importances.groupby("model", sort=False):
        by = "permutation_importance" if rows["permutation_importance"].notna().any() else "standardised_coefficient"
        order = rows[by].abs().sort_values(ascending=False, kind="stable").index
        tables.append(f"**{name}**\n\n{markdown.table(rows.loc[order[:NUM_FEATURES_SHOWN]])}")
    return "\n\n".join(tables)
