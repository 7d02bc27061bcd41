"""Run a study: search for a better configuration, retrain the winner, compare it with the recipe."""

import json
from dataclasses import replace

import pandas as pd

from luna_pipeline.cluster.session import ray_session
from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.splits import TrainingSplit, default_split, index_fingerprint, split_index
from luna_pipeline.core.evaluation.reference import Reference, read_reference
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.launchers.data_sources import tables_root
from luna_pipeline.launchers.installation import cutout_store, mlflow_opener, read_index, read_table
from luna_pipeline.launchers.versions import fold_version
from luna_pipeline.settings import Settings
from luna_pipeline.tuning.mlflow_runs import log_study, study_run
from luna_pipeline.tuning.plots import importance_png, parallel_coordinates_png
from luna_pipeline.tuning.ray.progress import StudyListener
from luna_pipeline.tuning.ray.running import run_study
from luna_pipeline.tuning.records import STOPPED_EARLY, TrialEnd, TrialRecords
from luna_pipeline.tuning.request import TunedParameters, TuningRequest
from luna_pipeline.tuning.study import StudyConfig
from luna_pipeline.tuning.study_folder import StudyFolder, StudyNote, study_folder
from luna_pipeline.tuning.table import importances, study_table, winner_of
from luna_pipeline.tuning.trial import TrialTask
from luna_pipeline.tuning.winner import TUNED, UNTUNED, FinalTraining

TRIALS, BEST = "trials.csv", "best.json"


def tune_parameters(settings: Settings, request: TuningRequest) -> TunedParameters:
    """Run a study, or resume it after a crash; then retrain the winner and score it on the test fold.

    Raises:
        FileNotFoundError: If there are no cutouts.
        ValueError: If folds, score and data do not fit together, or no trial has a score.
        ConnectionError: If there is no Ray cluster at the address.
    """
    index = read_index(settings)
    split = default_split(index, test_fold=request.test_fold, validation_fold=request.validation_fold)
    check_validation(index, split, request.study)
    references = {fold: _reference(settings, request.study, fold) for fold in (split.test_fold, split.validation_fold)}
    base = request.study.base
    note = StudyNote(
        digest=request.study.digest,
        index_digest=index_fingerprint(index),
        test_fold=split.test_fold,
        validation_fold=int(split.validation_fold or 0),
        study=request.study.to_dict(),
    )
    version = fold_version(base.version, split.test_fold)
    with study_folder(settings, base.name, version, note, resume=request.resume) as place:
        request.report(f"Study {place.title} {'starts' if place.is_new else 'resumes'} ({place.folder})")
        with study_run(settings, place, uses_mlflow=request.uses_mlflow, tags=request.tags) as mlflow:
            task = TrialTask(
                settings=settings,
                study=request.study,
                place=place,
                split=split,
                index_digest=note.index_digest,
                reference=references[split.validation_fold],
                num_threads=request.resources.cpus,
                mlflow_run_id=mlflow.run_id if mlflow else None,
            )
            _run_trials(request, task)
            tuned = _finished(settings, request, place, index=index, split=split, reference=references[split.test_fold])
            if mlflow is not None:
                log_study(mlflow, request.study, tuned)
        place.keep(replace(place.note(), is_complete=True))
        return replace(tuned, mlflow_run_id=mlflow.run_id if mlflow else None)


def check_validation(index: pd.DataFrame, split: TrainingSplit, study: StudyConfig) -> None:
    """Check that the validation fold can score trials.

    Raises:
        ValueError: If there is no validation fold, or a class is missing in it.
    """
    if split.validation_fold is None:
        msg = "A study must have a validation fold beside test and training, got two folds. Add CTs, or folds."
        raise ValueError(msg)
    _, validation, _ = split_index(index, split, dataset=study.base.dataset)
    dataset = DATASETS.get(study.base.dataset)
    groups = dataset.groups_of(dataset.usable(validation))
    num_positive = int((groups == len(dataset.group_names) - 1).sum())
    if num_positive in (0, len(groups)):
        msg = f"The validation fold must hold both classes, got {num_positive} of {len(groups)} that are looked for"
        raise ValueError(f"{msg} (fold {split.validation_fold}). Choose another validation fold.")


def _reference(settings: Settings, study: StudyConfig, fold: int | None) -> Reference | None:
    """Return the annotations of a fold for the CPM; None if the metric is the AUC."""
    if study.metric != "cpm" or fold is None:
        return None
    reference = read_reference(tables_root(settings), read_table(settings, "folds"), of_folds=[fold])
    if reference is None or not reference.nodules["series_instance_uid"].isin(reference.scans).any():
        msg = f"CPM must have annotated nodules to find, got none (fold {fold}). Take the metric auc."
        raise ValueError(msg)
    return reference


def _run_trials(request: TuningRequest, task: TrialTask) -> None:
    """Run the remaining trials; Ray is not started if there are none."""
    records, variants = TrialRecords(task.place.folder), request.study.variants()
    if variants is not None and len(records.ended()) == len(variants):
        return
    listener = StudyListener(
        records=records,
        num_epochs=request.study.epochs,
        metric=request.study.metric,
        say=request.report,
        num_trials=request.study.num_trials if variants is None else len(variants),
    )
    with ray_session(address=request.address, has_dashboard=request.has_dashboard) as there:
        request.report(f"Ray has {there.num_cpus:g} CPUs and {there.num_gpus:g} GPUs on {there.num_nodes} nodes")
        run_study(
            request.study,
            task.run,
            folder=task.place.local_folder,
            listener=listener,
            there=there,
            resources=request.resources,
        )
    _end_stopped_trials(records)


def _end_stopped_trials(records: TrialRecords) -> None:
    """Record the end of trials that the study's budget stopped."""
    for trial, progress in records.all_progress().items():
        if not records.has_ended(trial):
            records.end(TrialEnd(trial=trial, changes=progress.variant.changes, state=STOPPED_EARLY))


def _finished(
    settings: Settings,
    request: TuningRequest,
    place: StudyFolder,
    *,
    index: pd.DataFrame,
    split: TrainingSplit,
    reference: Reference | None,
) -> TunedParameters:
    """Write table, plots and best configuration of the trials; retrain and score the winner if requested."""
    study, records = request.study, TrialRecords(place.folder)
    table = study_table(study, records.all_progress(), records.ended())
    place.write(TRIALS, table.to_csv(index=False).encode())
    winner, best_epoch = winner_of(table)
    config = study.base.with_changes({**winner.changes, "num_epochs": study.epochs})
    place.write(BEST, json.dumps(config.to_dict(), indent=1).encode())
    pictures = {
        "parallel_coordinates.png": parallel_coordinates_png(table, study, is_synthetic=settings.is_synthetic),
        "importance.png": importance_png(importances(table, study), is_synthetic=settings.is_synthetic),
    }
    for name, png in pictures.items():
        place.write(name, png)
    tuned = TunedParameters(
        title=place.title,
        place=place,
        table=table,
        winner=winner,
        config=config,
        pictures=pictures,
    )
    if not request.trains_winner:
        return tuned
    training = FinalTraining(
        settings=settings,
        index=index,
        store=cutout_store(settings),
        test_fold=split.test_fold,
        report=request.report,
        open_mlflow_run=mlflow_opener(settings, tags=request.tags) if request.uses_mlflow else None,
    )
    return _with_winner(tuned, request, training, best_epoch=best_epoch, reference=reference)


def _with_winner(
    tuned: TunedParameters,
    request: TuningRequest,
    training: FinalTraining,
    *,
    best_epoch: int,
    reference: Reference | None,
) -> TunedParameters:
    study = request.study
    classifier = training.run(tuned.config, best_epoch=best_epoch, prefix=TUNED)
    if tuned.winner.trial == 0:
        return replace(tuned, classifier=classifier)
    as_it_is = tuned.table.set_index("trial")["best_epoch"].get(0, 0)
    untuned = training.run(
        study.base.with_changes(num_epochs=study.epochs), best_epoch=int(as_it_is) or study.epochs, prefix=UNTUNED
    )
    comparison = training.compare(
        load_checkpoint(classifier.path),
        load_checkpoint(untuned.path),
        metric=study.metric,
        reference=reference,
        num_bootstraps=request.num_bootstraps,
        seed=study.seed,
    )
    tuned.place.write("comparison.json", json.dumps(comparison.as_dict(), indent=1).encode())
    return replace(tuned, classifier=classifier, comparison=comparison)
