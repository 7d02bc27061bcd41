"""Subgroups, reliability, error sheets and model cards of pooled folds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.evaluation.calibration import RELIABILITY_COLUMNS, reliability_table
from luna_pipeline.core.evaluation.error_sheet import error_sheet
from luna_pipeline.core.evaluation.model_card import CalibrationErrors, DataPart, Figure, ModelCard
from luna_pipeline.core.evaluation.reader_words import reader_words
from luna_pipeline.core.evaluation.subgroups import subgroup_report
from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.launchers.evaluation.fold_predictions import num_parameters
from luna_pipeline.launchers.evaluation.mlflow_metrics import log_test_figure
from luna_pipeline.launchers.evaluation.official_scores import pooled_checkpoints
from luna_pipeline.launchers.evaluation.pooling import PooledPredictions
from luna_pipeline.launchers.evaluation.scoring import labelled
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.launchers.same_scans import read_same_scans
from luna_pipeline.launchers.seen_data import leaks_of_checkpoint
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_registry import log_model_card, registered_version_of
from luna_pipeline.tracking.tensorboard_pictures import add_picture

READERS_TABLE = "reader_nodules"
CARD_COLUMNS = ("fold", "model", "version", "registered_version", "mlflow_run_id", "card")
RELIABILITY_KINDS = {"probability": "as scored", "calibrated": "calibrated on validation"}
PURPOSES = {
    "nodule_classifier": "Tells nodules of at least 3 mm from a detector's other candidates in chest CT.",
    "malignancy_classifier": "Tells nodules that readers rate as suspicious from benign ones and other candidates.",
}
_FIGURES = {"auc": "AUC", "average_precision": "average precision"}
_FROC_FIGURES = {"cpm": "CPM", "sensitivity_at_1": "sensitivity at 1 false positive a scan"}


def subgroups_of(settings: Settings, pooled: PooledPredictions) -> pd.DataFrame:
    """Score each model by diameter, slice spacing, slice thickness and scanner, see ``subgroup_report``.

    Texture and calcification are added where a data source has the readers' ratings (``reader_nodules``).
    """
    index, catalogue = read_table(settings, "cutout_index"), read_table(settings, "ct_series")
    readable = catalogue[catalogue["is_readable"].astype(bool)]
    # Catalogues of earlier versions lack the slice thickness.
    series = readable.reindex(columns=["series_instance_uid", "spacing_mm", "slice_thickness_mm", "manufacturer"])
    nodules = index[["candidate_id", "diameter_mm"]]
    if exists(settings.tables_dir / f"{READERS_TABLE}.parquet"):
        places = pooled.predictions.drop_duplicates("candidate_id")
        words = reader_words(places, read_table(settings, READERS_TABLE))
        nodules = nodules.merge(words.assign(candidate_id=places["candidate_id"]), on="candidate_id", how="left")
    table = subgroup_report(pooled.predictions, nodules=nodules, series=series)
    return table.assign(classifier_versions=pooled.folds.versions)


def reliability_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the reliability of each model's scores before and after calibration.

    Args:
        predictions: One row per candidate and model.

    Returns:
        One row per model, kind of score and bin: ``model``, ``kind``, and the columns of ``reliability_table``. A kind
        that is nan for a candidate of the model is left out.
    """
    tables = []
    for model, rows in predictions.groupby("model", sort=False):
        labels = rows["class"].to_numpy(dtype=np.int64)
        for column, kind in RELIABILITY_KINDS.items():
            if rows[column].notna().all():
                table = reliability_table(labels, rows[column].to_numpy(dtype=np.float64))
                tables.append(table.assign(model=str(model), kind=kind))
    return pd.concat(tables, ignore_index=True)[["model", "kind", *RELIABILITY_COLUMNS]]


def errors_of(
    settings: Settings, pooled: PooledPredictions, model: str, store: CutoutSource, *, positives: str
) -> bytes:
    """Draw a model's worst errors over all pooled folds; each fold's are added to TensorBoard's log and MLflow's run.

    Args:
        settings: The installation.
        pooled: Predictions of the folds.
        model: The classifier's name in them.
        store: Source of the cutouts.
        positives: Name of class 1 in the picture.

    Returns:
        A PNG below 74 kB.
    """
    index = read_table(settings, "cutout_index")
    options: dict[str, Any] = {"positives": positives, "is_synthetic": settings.is_synthetic}
    rows = pooled.predictions[pooled.predictions["model"] == model]
    whole = error_sheet(rows, index, store, **options)
    for fold, checkpoint in pooled_checkpoints(settings, pooled):
        is_whole = pooled.folds.folds == [fold]
        png = whole if is_whole else error_sheet(rows[rows["fold"] == fold], index, store, **options)
        folder = settings.local_home / "tensorboard" / checkpoint.name / checkpoint.version
        add_picture(folder, png, tag="test/errors", step=checkpoint.num_samples_seen)
        log_test_figure(settings, checkpoint, "errors", png)
    return whole


def model_cards(
    settings: Settings,
    pooled: PooledPredictions,
    *,
    report: pd.DataFrame,
    subgroups: pd.DataFrame,
    store: CutoutSource,
    froc: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Write the model card of each pooled classifier, and log it to its MLflow run.

    Args:
        settings: The installation.
        pooled: Predictions of the folds.
        report: One row per model, see ``binary_report``.
        subgroups: See ``subgroup_report``.
        store: Source of the cutouts.
        froc: One row per model, see ``froc_table``; None for a task without LUNA16's score.

    Returns:
        One row per classifier with ``CARD_COLUMNS``.
    """
    uri, rows = settings.mlflow_tracking_uri, []
    for fold, checkpoint in pooled_checkpoints(settings, pooled):
        run_id = checkpoint.mlflow_run_id
        registered = None if run_id is None else registered_version_of(uri, checkpoint.name, run_id)
        known = {"report": report, "subgroups": subgroups, "froc": froc}
        card = _card(settings, pooled, checkpoint, known, store=store, fold=fold, registered=registered).to_markdown()
        if run_id is not None:
            log_model_card(uri, run_id, card)
        rows.append((fold, checkpoint.name, checkpoint.version, registered, run_id, card))
    return pd.DataFrame(rows, columns=list(CARD_COLUMNS))


def _card(
    settings: Settings,
    pooled: PooledPredictions,
    checkpoint: Checkpoint,
    known: Mapping[str, Any],
    *,
    store: CutoutSource,
    fold: int,
    registered: str | None,
) -> ModelCard:
    own = {name: table[table["model"] == checkpoint.name] for name, table in known.items() if table is not None}
    row = own["report"].iloc[0]
    figures = _figures(own["froc"], _FROC_FIGURES) if "froc" in own else []
    return ModelCard(
        name=checkpoint.name,
        version=checkpoint.version,
        registered_version=registered,
        purpose=PURPOSES[checkpoint.name],
        is_synthetic=settings.is_synthetic,
        leaks=str(
            leaks_of_checkpoint(
                checkpoint,
                pooled.predictions.query("fold == @fold"),
                read_table(settings, "folds"),
                read_same_scans(settings),
            )
        ),
        num_folds=pooled.folds.num_folds,
        evaluated_folds=tuple(pooled.folds.folds),
        parts=_parts(settings, checkpoint, store, fold=fold),
        figures=[*figures, *_figures(own["report"], _FIGURES)],
        decision=checkpoint.decision,
        calibration=CalibrationErrors(
            **{name: float(row[name]) for name in ("brier", "ece", "brier_calibrated", "ece_calibrated")}
        ),
        subgroups=own["subgroups"].drop(columns=["model", "classifier_versions"], errors="ignore").to_dict("records"),
        config_digest=checkpoint.config.digest,
        data_fingerprint=checkpoint.data_fingerprint,
        num_parameters=num_parameters(checkpoint),
        training_seconds=checkpoint.training_seconds,
        mlflow_run_id=checkpoint.mlflow_run_id,
        # The head of the card has the sample.
        notes=" ".join(filter(None, [checkpoint.notes, *pooled.older_notes])),
        sample=pooled.sample,
    )


def _figures(row: pd.DataFrame, names: Mapping[str, str]) -> list[Figure]:
    return [
        Figure(words, *(float(row[f"{name}{bound}"].iloc[0]) for bound in ("", "_lower", "_upper")))
        for name, words in names.items()
        if len(row)
    ]


def _parts(settings: Settings, checkpoint: Checkpoint, store: CutoutSource, *, fold: int) -> list[DataPart]:
    index = labelled(read_table(settings, "cutout_index"), store, checkpoint.config.dataset)
    is_candidate = index["source"] == "candidate"
    series = index["series_instance_uid"]
    parts = {
        "training": index[index["candidate_id"].isin(checkpoint.training_candidate_ids.numpy())],
        "validation": index[series.isin(checkpoint.validation_series) & is_candidate],
        "test": index[(index["fold"] == fold) & is_candidate],
    }
    return [
        DataPart(
            name=name,
            folds=tuple(sorted(int(number) for number in rows["fold"].unique())),
            num_series=int(rows["series_instance_uid"].nunique()),
            num_candidates=len(rows),
            num_nodules=int(rows["class"].sum()),
        )
        for name, rows in parts.items()
    ]
