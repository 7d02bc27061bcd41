"""Stage 5: reports on the pooled test folds, the same five for nodules and for malignancy."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets import markdown
from luna_pipeline.assets.draws import DrawsConfig
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.stage_5_evaluation import GROUP, pooled_deps
from luna_pipeline.resources import CutoutCutting, LunaPaths
from luna_pipeline.table_columns import shown_table

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.launchers.evaluation.pooling import PooledPredictions
    from luna_pipeline.settings import Settings

RESEARCH_USE = "Research use only."
SHOWN = ["model", "num_candidates", "num_nodules", "num_series", "auc", "auc_lower", "auc_upper", "average_precision"]
SHOWN += ["sensitivity_at_specificity_95", "threshold", "sensitivity", "specificity", "ece", "ece_calibrated", "notes"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A binary task and its assets.

    Attributes:
        name: First word of the reports' names.
        classifier: Asset and model.
        positives: Class 1, in words.
    """

    name: str
    classifier: str
    positives: str

    @property
    def deps(self) -> list[str]:
        """Assets that are read when the folds are pooled; not every fold has to exist."""
        return pooled_deps(self.name)

    def own(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """Return the rows of the task's classifier."""
        return table[table["model"] == self.classifier]


NODULES = Task(name="nodule", classifier="nodule_classifier", positives="nodules")
MALIGNANCY = Task(name="malignancy", classifier="malignancy_classifier", positives="malignant nodules")
Reported = tuple["pd.DataFrame", dict[str, Any]]

KINDS = {"python", "scikitlearn"}
report_asset = partial(
    dg.asset, group_name=GROUP, owners=OWNERS, kinds=KINDS, code_version="3", io_manager_key="tables"
)


def _output(task: Task, settings: "Settings", compute: Callable[..., Reported], **more: Any) -> dg.Output[Any]:
    """Pool the task's test folds and return a report on them, with the metadata that all reports have.

    Args:
        task: What the pooled models classify.
        settings: Where the predictions are.
        compute: Returns table and metadata; called with the task, the settings, the pooled predictions and ``more``.
        more: Further arguments of ``compute``.
    """
    from luna_pipeline.launchers.evaluation.pooling import pooled_predictions

    started = time.perf_counter()
    pooled = pooled_predictions(settings, task.classifier)
    table, metadata = compute(task, settings, pooled, **more)
    about: dict[str, Any] = {
        "folds": pooled.folds.title,
        "data": settings.kind_of_data,
        "notes": " ".join(filter(None, [metadata.pop("notes", ""), *pooled.notes, RESEARCH_USE])),
        "seconds": round(time.perf_counter() - started, 2),
    }
    return dg.Output(table, metadata={**metadata, **about})


def _report(task: Task, settings: "Settings", pooled: "PooledPredictions", log: Any, config: DrawsConfig) -> Reported:
    from luna_pipeline.core.evaluation.plots import roc_and_pr_png
    from luna_pipeline.core.evaluation.report import binary_report
    from luna_pipeline.core.evaluation.resampling import patient_groups
    from luna_pipeline.launchers.evaluation.mlflow_metrics import log_fold_figures, log_fold_metrics
    from luna_pipeline.launchers.installation import read_table

    left_out = {str(fold): reason for fold, reason in pooled.folds.left_out.items()} | pooled.left_out
    for reason in left_out.values():
        log.warning("Left out: %s", reason)
    for note in pooled.notes:
        log.warning(note)
    # All scans of a patient are drawn together: a nodule may be seen in several.
    draws: dict[str, Any] = {"num_bootstraps": config.num_bootstraps, "seed": config.seed}
    table = binary_report(pooled.predictions, groups=patient_groups(read_table(settings, "folds")), **draws)
    table.insert(1, "folds", pooled.folds.title)
    table = pooled.noted(table)
    notes = log_fold_metrics(settings, pooled)
    marks: dict[str, Any] = {"is_synthetic": settings.is_synthetic, "footnote": pooled.footnote}
    png = roc_and_pr_png(pooled.predictions, report=table, **marks)
    log_fold_figures(settings, pooled, "roc_and_pr", whole=png, draw=partial(roc_and_pr_png, **marks))
    own = task.own(table).iloc[0]
    return table, {
        "auc": float(own["auc"]),
        "average_precision": float(own["average_precision"]),
        "left_out": dg.MetadataValue.json(left_out),
        "report": shown_table(table[SHOWN]),
        "curves": dg.MetadataValue.md(markdown.picture(png, "ROC and PR, research use only")),
        "notes": notes,
    }


def _calibration(task: Task, settings: "Settings", pooled: "PooledPredictions") -> Reported:
    from luna_pipeline.core.evaluation.calibration_plot import reliability_png
    from luna_pipeline.launchers.evaluation.mlflow_metrics import log_fold_figures
    from luna_pipeline.launchers.evaluation.reports import reliability_of

    # The diagrams of all models would exceed the size of one event.
    marks: dict[str, Any] = {"is_synthetic": settings.is_synthetic, "footnote": pooled.footnote_of(task.classifier)}

    def draw(rows: "pd.DataFrame") -> bytes:
        return reliability_png(task.own(rows), **marks)

    png = draw(pooled.predictions)
    log_fold_figures(settings, pooled, "reliability", whole=png, draw=draw)
    diagram = dg.MetadataValue.md(markdown.picture(png, "reliability, research use only"))
    return reliability_of(pooled.predictions), {"diagram": diagram}


def _subgroups(task: Task, settings: "Settings", pooled: "PooledPredictions") -> Reported:
    from luna_pipeline.launchers.evaluation.reports import subgroups_of

    table = subgroups_of(settings, pooled)
    own = task.own(table).drop(columns=["model", "classifier_versions"])
    return table, {"subgroups": shown_table(own)}


def _errors(task: Task, settings: "Settings", pooled: "PooledPredictions", cutting: CutoutCutting) -> Reported:
    from luna_pipeline.core.evaluation.error_sheet import worst_errors
    from luna_pipeline.launchers.evaluation.reports import errors_of

    png = errors_of(settings, pooled, task.classifier, cutting.source, positives=task.positives)
    table = worst_errors(task.own(pooled.predictions)).reset_index(drop=True)
    return table, {"montage": dg.MetadataValue.md(markdown.picture(png, "errors, research use only"))}


def _model_cards(
    task: Task, settings: "Settings", pooled: "PooledPredictions", *, cutting: CutoutCutting, **tables: Any
) -> Reported:
    from luna_pipeline.launchers.evaluation.pooling import check_of_these_folds
    from luna_pipeline.launchers.evaluation.reports import model_cards

    for kind, table in tables.items():
        check_of_these_folds(table, pooled.folds, f"{task.name}_{kind}")
    cards = model_cards(settings, pooled, store=cutting.source, **tables)
    return cards, {"card": dg.MetadataValue.md(str(cards["card"].iloc[0]))}


@report_asset(deps=NODULES.deps)
def nodule_report(context: dg.AssetExecutionContext, config: DrawsConfig, paths: LunaPaths) -> dg.Output[Any]:
    """Binary report on the pooled test folds, one row per model. Class 1: nodules. Research use only.

    The folds trained with the newest recipe on the same cutouts are pooled; `folds` lists them. Form: ROC AUC and
    average precision with 95 % intervals (bootstrap over patients where they are known, else scans), sensitivity at
    specificity 0.95, sensitivity and specificity at thresholds chosen on the validation folds (0.5 without one),
    calibration before and after, counts.
    """
    return _output(NODULES, paths.settings, _report, log=context.log, config=config)


@report_asset(deps=MALIGNANCY.deps)
def malignancy_report(context: dg.AssetExecutionContext, config: DrawsConfig, paths: LunaPaths) -> dg.Output[Any]:
    """Binary report on the pooled test folds as `nodule_report`. Class 1: malignant nodules. Research use only."""
    return _output(MALIGNANCY, paths.settings, _report, log=context.log, config=config)


@report_asset(deps=NODULES.deps)
def nodule_calibration(paths: LunaPaths) -> dg.Output[Any]:
    """Reliability of the pooled scores, before and after calibration on the validation folds. Research use only.

    Form: one row per model, kind of score and tenth of the scores: mean score, share of positives, count.
    """
    return _output(NODULES, paths.settings, _calibration)


@report_asset(deps=MALIGNANCY.deps)
def malignancy_calibration(paths: LunaPaths) -> dg.Output[Any]:
    """Reliability of the pooled malignancy scores. Form: as `nodule_calibration`. Research use only."""
    return _output(MALIGNANCY, paths.settings, _calibration)


@report_asset(deps=[*NODULES.deps, "ct_series", "reader_nodules"])
def nodule_subgroups(paths: LunaPaths) -> dg.Output[Any]:
    """Scores of each model by diameter, slice spacing and scanner, where these are known. Research use only.

    Form: one row per model, kind and group, with counts.
    """
    return _output(NODULES, paths.settings, _subgroups)


@report_asset(deps=[*MALIGNANCY.deps, "ct_series", "reader_nodules"])
def malignancy_subgroups(paths: LunaPaths) -> dg.Output[Any]:
    """Scores of each malignancy model by subgroup. Form: as `nodule_subgroups`. Research use only."""
    return _output(MALIGNANCY, paths.settings, _subgroups)


@report_asset(deps=NODULES.deps)
def nodule_errors(paths: LunaPaths, cutting: CutoutCutting) -> dg.Output[Any]:
    """The classifier's worst errors: highest-scored non-nodules and lowest-scored nodules. Research use only.

    Form: a table and a montage, which is also in the TensorBoard log of each fold's classifier.
    """
    return _output(NODULES, paths.settings, _errors, cutting=cutting)


@report_asset(deps=MALIGNANCY.deps)
def malignancy_errors(paths: LunaPaths, cutting: CutoutCutting) -> dg.Output[Any]:
    """The malignancy classifier's worst errors. Form: as `nodule_errors`. Research use only."""
    return _output(MALIGNANCY, paths.settings, _errors, cutting=cutting)


@report_asset(deps=NODULES.deps)
def nodule_model_cards(
    paths: LunaPaths, cutting: CutoutCutting, nodule_report: Any, nodule_subgroups: Any, nodule_froc: Any
) -> dg.Output[Any]:
    """A model card for each pooled registered version. Research use only.

    Form: one row per version: data, folds, scores with intervals, calibration, limits. Also an artifact of the
    version's MLflow run and its description in the registry.
    """
    tables = {"report": nodule_report, "subgroups": nodule_subgroups, "froc": nodule_froc}
    return _output(NODULES, paths.settings, _model_cards, cutting=cutting, **tables)


@report_asset(deps=MALIGNANCY.deps)
def malignancy_model_cards(
    paths: LunaPaths, cutting: CutoutCutting, malignancy_report: Any, malignancy_subgroups: Any
) -> dg.Output[Any]:
    """A model card for each pooled version of the malignancy classifier. Form: as `nodule_model_cards`."""
    tables = {"report": malignancy_report, "subgroups": malignancy_subgroups}
    return _output(MALIGNANCY, paths.settings, _model_cards, cutting=cutting, **tables)
