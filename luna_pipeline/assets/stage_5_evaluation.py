"""Stage 5: what the classifiers are worth on the untouched test fold."""

import time
from typing import Any

import dagster as dg
from pydantic import Field

from luna_pipeline.assets import markdown
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.resources import CutoutCutting, LunaPaths

GROUP = "stage_5_evaluation"


class PredictionConfig(dg.Config):
    """Which classifiers score the test fold beside the trained one."""

    also: list[str] = Field(
        default=[],
        description="Names of further checkpoints, such as an imported classifier; their newest version.",
    )


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"python", "pytorch"}, code_version="2", io_manager_key="tables")
def nodule_predictions(
    config: PredictionConfig,
    cutting: CutoutCutting,
    paths: LunaPaths,
    candidates: Any,
    cutout_index: Any,
    nodule_classifier: Any,
    zero_rule_baseline: Any,
    feature_baseline: Any,
) -> dg.Output[Any]:
    """Scores of every candidate of the test fold, by the network and by what it has to beat.

    Form: candidate id, series uid, x_mm, y_mm, z_mm, class, fold, model, probability and the model's threshold; a row
    a candidate and model. Candidates of series that a model was trained on are refused.
    """
    from luna_pipeline.core.memory import keep_freed_memory
    from luna_pipeline.launchers import LunaClassificationLauncher, predict_test_fold

    started = time.perf_counter()
    keep_freed_memory()
    settings = paths.settings
    launcher = LunaClassificationLauncher(settings.home, local_home=settings.local_home)
    predictions = predict_test_fold(
        index=cutout_index,
        candidates=candidates,
        store=cutting.store,
        checkpoints=[nodule_classifier, *(launcher.load(name) for name in config.also)],
        zero_rule=float(zero_rule_baseline["probability"].iloc[0]),
        baselines=feature_baseline,
    )
    metadata: dict[str, Any] = {
        "models": ", ".join(sorted(set(predictions["model"]))),
        "num_candidates": int(predictions["candidate_id"].nunique()),
        "num_series": int(predictions["series_instance_uid"].nunique()),
        "seconds": round(time.perf_counter() - started, 2),
    }
    return dg.Output(predictions, metadata=metadata)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "scikitlearn"},
    code_version="1",
    io_manager_key="tables",
)
def nodule_report(paths: LunaPaths, nodule_predictions: Any, nodule_classifier: Any) -> dg.Output[Any]:
    """Binary report of the untouched test fold, a row a model. Research use only.

    Form: ROC AUC, average precision, sensitivity and specificity at the threshold chosen on the validation fold (0.5
    where there is none), counts. The official FROC is another score and is not here.
    """
    from luna_pipeline.core.evaluation.plots import roc_and_pr_png
    from luna_pipeline.core.evaluation.report import binary_report
    from luna_pipeline.launchers import log_test_metrics

    started = time.perf_counter()
    thresholds = nodule_predictions.groupby("model")["threshold"].first().to_dict()
    report = binary_report(nodule_predictions, thresholds)
    synthetic = (paths.settings.data_dir / "phantom.json").exists()
    log_test_metrics(nodule_classifier, report, tracking_uri=paths.settings.mlflow_tracking_uri)
    png = roc_and_pr_png(nodule_predictions, is_synthetic=synthetic)
    own = report[report["model"] == nodule_classifier.name].iloc[0]
    metadata: dict[str, Any] = {
        "auc": float(own["auc"]),
        "average_precision": float(own["average_precision"]),
        "data": "synthetic phantom" if synthetic else "CT",
        "report": dg.MetadataValue.md(markdown.table(report)),
        "curves": dg.MetadataValue.md(markdown.picture(png, "ROC and PR, research use only")),
        "notes": f"{nodule_classifier.notes or ''} Research use only.".strip(),
        "seconds": round(time.perf_counter() - started, 2),
    }
    return dg.Output(report, metadata=metadata)
