"""Stage 5: LUNA16's score on the pooled test folds, the leaderboard, and the champion."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from luna_pipeline.assets import markdown
from luna_pipeline.assets.draws import DrawsConfig
from luna_pipeline.assets.sources import REFERENCE_SOURCES
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.stage_5_evaluation import GROUP, pooled_deps
from luna_pipeline.resources import LunaPaths
from luna_pipeline.table_columns import shown_table

if TYPE_CHECKING:
    from luna_pipeline.launchers.evaluation.champion import Outcome

POOLED = pooled_deps("nodule")
KINDS = {"python", "scikitlearn"}
SHOWN = ["rank", "model", "cpm", "cpm_lower", "cpm_upper", "auc", "sensitivity_at_1_fp", "better_than_next", "notes"]


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds=KINDS,
    code_version="1",
    io_manager_key="tables",
    deps=[*POOLED, *REFERENCE_SOURCES],
)
def nodule_froc(context: dg.AssetExecutionContext, config: DrawsConfig, paths: LunaPaths) -> dg.Output[Any]:
    """LUNA16's FROC and CPM of the pooled test folds, as the official script computes them. Research use only.

    Source: predictions of the folds trained with the newest recipe on the same cutouts, `annotations.csv`,
    `annotations_excluded.csv` and `seriesuids.csv`. Form: one row per model with CPM, sensitivities at the seven
    rates, 95 % intervals (bootstrap over scans), and the CPM of each sample; and the network's
    `submissions/nodule_classifier/<folds>.csv`. No rows without annotations.
    """
    from luna_pipeline.core.evaluation.froc_plot import froc_png
    from luna_pipeline.launchers.evaluation import mlflow_metrics, official_scores, pooling

    started, settings = time.perf_counter(), paths.settings
    pooled = pooling.pooled_predictions(settings, "nodule_classifier")
    official = official_scores.official_scores(settings, pooled, num_bootstraps=config.num_bootstraps, seed=config.seed)
    for note in [*pooled.folds.left_out.values(), *pooled.notes, *official.notes]:
        context.log.warning(note)
    submission = official_scores.write_pooled_submission(settings, pooled, "nodule_classifier")
    synthetic = settings.is_synthetic
    metadata: dict[str, Any] = {
        "folds": pooled.folds.title,
        "data": settings.kind_of_data,
        "scores": shown_table(official.table.drop(columns="cpm_draws")),
        "submission": dg.MetadataValue.path(str(submission)),
        "notes": " ".join([*pooled.notes, *official.notes, "Research use only."]),
    }
    if official.results:
        png = froc_png(official.results, title=pooled.folds.title, is_synthetic=synthetic, footnote=pooled.footnote)
        mlflow_metrics.log_fold_scores(settings, pooled, "nodule_classifier", whole=png)
        metadata["froc"] = dg.MetadataValue.md(markdown.picture(png, "FROC, research use only"))
        metadata["cpm"] = official.results["nodule_classifier"].curve.cpm
    return dg.Output(official.table, metadata={**metadata, "seconds": round(time.perf_counter() - started, 2)})


@dg.asset(group_name=GROUP, owners=OWNERS, kinds=KINDS, code_version="1", io_manager_key="tables", deps=POOLED)
def leaderboard(paths: LunaPaths, nodule_froc: Any, nodule_report: Any) -> dg.Output[Any]:
    """All models and baselines on the same folds and candidates, best first. Research use only.

    Form: one row per model: CPM and AUC with 95 % intervals, sensitivity at 1 false positive per scan, whether it is
    better than the next model (paired bootstrap), parameters, training seconds, candidates per second, MLflow runs,
    notes, such as that a model was trained on older cutouts, or that the candidates are a sample.
    """
    from luna_pipeline.core.evaluation.leaderboard import leaderboard as ranked
    from luna_pipeline.core.evaluation.leaderboard_plot import leaderboard_png
    from luna_pipeline.launchers.evaluation import pooling

    started = time.perf_counter()
    pooled = pooling.pooled_predictions(paths.settings, "nodule_classifier")
    for name, table in (("nodule_froc", nodule_froc), ("nodule_report", nodule_report)):
        pooling.check_of_these_folds(table, pooled.folds, name)
    notes = {model: pooled.note_of(model) for model in pooled.models["model"]}
    board = ranked(nodule_froc, nodule_report, pooled.models, folds=pooled.folds.title, notes=notes)
    board["classifier_versions"] = pooled.folds.versions
    png = leaderboard_png(board, is_synthetic=paths.settings.is_synthetic, footnote=pooled.footnote)
    metadata: dict[str, Any] = {
        "folds": pooled.folds.title,
        "best": str(board["model"].iloc[0]),
        "picture": dg.MetadataValue.md(markdown.picture(png, "leaderboard, research use only")),
        "leaderboard": shown_table(board[SHOWN]),
        "notes": " ".join([*pooled.notes, "Research use only."]),
        "seconds": round(time.perf_counter() - started, 2),
    }
    return dg.Output(board, metadata=metadata)


class ChampionConfig(DrawsConfig):
    """Conditions for a champion."""

    max_calibration_error: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Largest allowed calibration error on the test folds, above the error that chance gives a "
        "perfectly calibrated model with as many candidates. 0.05 is half a bin of the reliability diagram.",
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "mlflow"},
    code_version="1",
    io_manager_key="tables",
    deps=[*POOLED, *REFERENCE_SOURCES],
    check_specs=[
        dg.AssetCheckSpec(
            "may_be_champion",
            asset="champion",
            blocking=True,
            description="The best network of the leaderboard is the champion: better on the same folds, calibrated, no "
            "leak, all candidates scored. A network that is not good enough gives a warning; a leak fails the run. If "
            "it fails: the result names the condition; train more folds or another recipe, or remove the leak, and run "
            "`promote` again.",
        )
    ],
)
def champion(
    context: dg.AssetExecutionContext, config: ChampionConfig, paths: LunaPaths, leaderboard: Any
) -> Iterator[dg.Output[Any] | dg.AssetCheckResult]:
    """The nodule classifier with the alias `champion` in MLflow's registry; only this asset moves the alias.

    The best network of the leaderboard is compared with the champion; rule and outcome are in the metadata. Form: the
    champion's predictions at the time of its promotion, with which the next candidate is compared.
    """
    from luna_pipeline.launchers.evaluation.champion import challenge, exclusive_promotion

    started = time.perf_counter()
    # The IO manager writes the table while this generator waits at its output. The check is of the newest one.
    with exclusive_promotion(paths.settings):
        outcome = challenge(
            paths.settings,
            leaderboard,
            max_ece=config.max_calibration_error,
            num_bootstraps=config.num_bootstraps,
            seed=config.seed,
        )
        (context.log.info if outcome.is_fine else context.log.warning)(outcome.text)
        yield dg.Output(outcome.predictions, metadata=_metadata(outcome, started))
        yield dg.AssetCheckResult(
            check_name="may_be_champion",
            passed=outcome.is_fine,
            severity=dg.AssetCheckSeverity.ERROR if outcome.promotion.is_error else dg.AssetCheckSeverity.WARN,
            metadata=_result(outcome),
            description=outcome.text,
        )


def _result(outcome: "Outcome") -> dict[str, str]:
    return {"outcome": outcome.text, "rule": outcome.promotion.rule, "conditions": outcome.promotion.findings}


def _metadata(outcome: "Outcome", started: float) -> dict[str, Any]:
    return {
        **_result(outcome),
        "champion": outcome.champion,
        "registered_version": outcome.registered_version,
        "folds": outcome.folds,
        "notes": "Research use only.",
        "seconds": round(time.perf_counter() - started, 2),
    }
