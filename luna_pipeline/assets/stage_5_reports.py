"""Stage 5: what is reported of pooled test folds, the same for nodules and for malignancy."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dagster as dg

from luna_pipeline.assets import markdown
from luna_pipeline.assets.draws import DrawsConfig
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.stage_5_evaluation import GROUP
from luna_pipeline.resources import CutoutCutting, LunaPaths

KINDS = {"python", "scikitlearn"}
RESEARCH_USE = "Research use only."
SHOWN = [
    "model",
    "num_candidates",
    "num_nodules",
    "num_series",
    "auc",
    "auc_lower",
    "auc_upper",
    "average_precision",
    "sensitivity_at_specificity_95",
    "threshold",
    "sensitivity",
    "specificity",
    "ece",
    "ece_calibrated",
]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a classifier tells apart, and the assets of it.

    Attributes:
        name: First word of the reports' names.
        classifier: Asset and model.
        positives: What class 1 is, in words.
        has_froc: Whether LUNA16's score is of this task.
    """

    name: str
    classifier: str
    positives: str
    has_froc: bool

    @property
    def deps(self) -> list[str]:
        """Assets that are read where folds are pooled: those that were not trained are no part of it."""
        return [f"{self.name}_predictions", f"{self.name}_models", self.classifier]

    def asset(self, kind: str, description: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        """Return the decorator of one of the task's assets."""
        decorator: Callable[[Callable[..., Any]], Any] = dg.asset(
            name=f"{self.name}_{kind}",
            group_name=GROUP,
            owners=OWNERS,
            kinds=KINDS,
            code_version="3",
            io_manager_key="tables",
            description=f"{description} {RESEARCH_USE}",
            **{"deps": self.deps, **options},
        )
        return decorator


NODULES = Task(name="nodule", classifier="nodule_classifier", positives="nodules", has_froc=True)
MALIGNANCY = Task(name="malignancy", classifier="malignancy_classifier", positives="malignant nodules", has_froc=False)


def report(task: Task) -> Any:
    """Make the asset `<task>_report`."""

    @task.asset(
        "report",
        "Binary report of the pooled test folds, a row a model. Pooled are the folds whose classifiers are of the "
        "newest one's recipe and cutouts; `folds` says which. Form: ROC AUC and average precision with 95 % intervals "
        "over draws of scans, sensitivity at specificity 0.95, decisions at thresholds chosen on the validation folds "
        f"(0.5 where there is none), calibration before and after, counts. Class 1: {task.positives}.",
    )
    def made(context: dg.AssetExecutionContext, config: DrawsConfig, paths: LunaPaths) -> dg.Output[Any]:
        from luna_pipeline.core.evaluation.plots import roc_and_pr_png
        from luna_pipeline.core.evaluation.report import binary_report
        from luna_pipeline.launchers.evaluation import mlflow_metrics, pooling

        started, settings = time.perf_counter(), paths.settings
        pooled = pooling.pooled_predictions(settings, task.classifier)
        left_out = {str(fold): reason for fold, reason in pooled.folds.left_out.items()} | pooled.left_out
        for reason in left_out.values():
            context.log.warning("Left out: %s", reason)
        table = binary_report(pooled.predictions, num_bootstraps=config.num_bootstraps, seed=config.seed)
        table.insert(1, "folds", pooled.folds.title)
        table["classifier_versions"] = pooled.folds.versions
        notes = mlflow_metrics.log_fold_metrics(settings, pooled)
        synthetic = settings.is_synthetic
        png = roc_and_pr_png(pooled.predictions, report=table, is_synthetic=synthetic)
        own = table[table["model"] == task.classifier].iloc[0]
        metadata: dict[str, Any] = {
            "auc": float(own["auc"]),
            "average_precision": float(own["average_precision"]),
            "left_out": dg.MetadataValue.json(left_out),
            "report": dg.MetadataValue.md(markdown.table(table[SHOWN])),
            "curves": dg.MetadataValue.md(markdown.picture(png, "ROC and PR, research use only")),
        }
        return dg.Output(table, metadata={**metadata, **_about(pooled, synthetic, started, notes)})

    return made


def calibration(task: Task) -> Any:
    """Make the asset `<task>_calibration`."""

    @task.asset(
        "calibration",
        "Reliability of the pooled scores, before and after the calibration that was fitted on the validation folds. "
        "Form: a row a model, kind of score and tenth of the scores: mean score, share of positives, count.",
    )
    def made(paths: LunaPaths) -> dg.Output[Any]:
        from luna_pipeline.core.evaluation.calibration_plot import reliability_png
        from luna_pipeline.launchers.evaluation import pooling, reports

        started = time.perf_counter()
        pooled = pooling.pooled_predictions(paths.settings, task.classifier)
        synthetic = paths.settings.is_synthetic
        # One diagram an event: those of all models would be too much for a page.
        own = pooled.predictions[pooled.predictions["model"] == task.classifier]
        png = reliability_png(own, is_synthetic=synthetic)
        metadata = {"diagram": dg.MetadataValue.md(markdown.picture(png, "reliability, research use only"))}
        table = reports.reliability_of(pooled.predictions)
        return dg.Output(table, metadata={**metadata, **_about(pooled, synthetic, started)})

    return made


def subgroups(task: Task) -> Any:
    """Make the asset `<task>_subgroups`."""

    @task.asset(
        "subgroups",
        "Each model's worth by diameter, texture, slice thickness and scanner, where they are known, with counts. "
        "Form: a row a model, kind and group that occurs.",
        deps=[*task.deps, "cutout_index", "ct_series"],
    )
    def made(paths: LunaPaths) -> dg.Output[Any]:
        from luna_pipeline.launchers.evaluation import pooling, reports

        started = time.perf_counter()
        pooled = pooling.pooled_predictions(paths.settings, task.classifier)
        table = reports.subgroups_of(paths.settings, pooled)
        own = table[table["model"] == task.classifier].drop(columns=["model", "classifier_versions"])
        metadata = {"subgroups": dg.MetadataValue.md(markdown.table(own))}
        return dg.Output(table, metadata={**metadata, **_about(pooled, paths.settings.is_synthetic, started)})

    return made


def errors(task: Task) -> Any:
    """Make the asset `<task>_errors`."""

    @task.asset(
        "errors",
        f"The classifier's worst errors: the highest-scored others and the lowest-scored {task.positives}, as a table "
        "and as a montage, here and in the TensorBoard log of each fold's classifier.",
        deps=[*task.deps, "cutout_index"],
    )
    def made(paths: LunaPaths, cutting: CutoutCutting) -> dg.Output[Any]:
        from luna_pipeline.core.evaluation.error_sheet import worst_errors
        from luna_pipeline.launchers.evaluation import pooling, reports

        started = time.perf_counter()
        pooled = pooling.pooled_predictions(paths.settings, task.classifier)
        png = reports.errors_of(paths.settings, pooled, task.classifier, cutting.store, positives=task.positives)
        metadata = {"montage": dg.MetadataValue.md(markdown.picture(png, "errors, research use only"))}
        own = pooled.predictions[pooled.predictions["model"] == task.classifier]
        table = worst_errors(own).reset_index(drop=True)
        return dg.Output(table, metadata={**metadata, **_about(pooled, paths.settings.is_synthetic, started)})

    return made


def model_cards(task: Task) -> Any:
    """Make the asset `<task>_model_cards`."""
    inputs = ["report", "subgroups", *(["froc"] if task.has_froc else [])]

    @task.asset(
        "model_cards",
        "A model card for each registered version that was pooled: data, folds, figures with intervals, calibration, "
        "limits; also an artifact of its MLflow run and the version's description. Form: a row a version.",
        ins={kind: dg.AssetIn(f"{task.name}_{kind}") for kind in inputs},
        deps=[*task.deps, "cutout_index"],
    )
    def made(paths: LunaPaths, cutting: CutoutCutting, **tables: Any) -> dg.Output[Any]:
        from luna_pipeline.launchers.evaluation import pooling, reports

        started = time.perf_counter()
        pooled = pooling.pooled_predictions(paths.settings, task.classifier)
        for kind, made_before in tables.items():
            pooling.check_of_these_folds(made_before, pooled.folds, f"{task.name}_{kind}")
        table = reports.model_cards(paths.settings, pooled, store=cutting.store, **tables)
        metadata = {"card": dg.MetadataValue.md(str(table["card"].iloc[0]))}
        return dg.Output(table, metadata={**metadata, **_about(pooled, paths.settings.is_synthetic, started)})

    return made


def _about(pooled: Any, is_synthetic: bool, started: float, notes: str = "") -> dict[str, Any]:
    """Return what every report says of itself."""
    return {
        "folds": pooled.folds.title,
        "data": "synthetic phantom" if is_synthetic else "CT",
        "notes": f"{notes} {RESEARCH_USE}".strip(),
        "seconds": round(time.perf_counter() - started, 2),
    }


REPORT_ASSETS = [
    make(task) for task in (NODULES, MALIGNANCY) for make in (report, calibration, subgroups, errors, model_cards)
]
