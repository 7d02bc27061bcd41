"""A study run by Ray Tune: begun, or taken up where a driver was lost."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from ray import tune

from luna_pipeline.cluster.session import RayResources
from luna_pipeline.tuning.ray.progress import LISTENER, HandOn, StudyListener
from luna_pipeline.tuning.ray.search import EpochBudget, asked_of_ray, scheduler_of, variant_of
from luna_pipeline.tuning.records import TrialRecords
from luna_pipeline.tuning.resources import TrialResources
from luna_pipeline.tuning.study import StudyConfig, Variant

Report: TypeAlias = Callable[[dict[str, Any]], None]
RunTrial: TypeAlias = Callable[[Variant, Report], None]
RAY_FOLDER = "ray"


def run_study(
    study: StudyConfig,
    run_trial: RunTrial,
    *,
    folder: Path,
    listener: StudyListener,
    there: RayResources,
    resources: TrialResources,
) -> None:
    """Run all trials of a study, inside a session of Ray; what they come to is in their records.

    Args:
        study: What is searched.
        run_trial: Tries a variant in a process of Ray's, to which it is sent; reports ``EPOCH``, ``SCORE`` and
            ``ERROR``. What it raises is tried again.
        folder: Of the driver's machine, for Ray's own notes; a study whose notes are there goes on.
        listener: Is told how trials go and end.
        there: What the session has to give.
        resources: What a trial gets.

    Raises:
        ValueError: If there is not even room for one trial.
    """
    asked = resources.of(there)
    trainable = tune.with_resources(_trainable(run_trial), asked)
    token = LISTENER.set(listener)
    try:
        with _quiet():
            tuner = _tuner(
                study, trainable, folder, listener.records, resources=resources, at_once=resources.concurrent(there)
            )
            tuner.fit()
    finally:
        LISTENER.reset(token)


def _trainable(run_trial: RunTrial) -> Callable[[dict[str, Any]], None]:
    def trial(config: dict[str, Any]) -> None:
        run_trial(variant_of(config), tune.report)

    return trial


def _tuner(
    study: StudyConfig, trainable: Any, folder: Path, records: TrialRecords, *, resources: TrialResources, at_once: int
) -> "tune.Tuner":
    folder.mkdir(parents=True, exist_ok=True)
    notes = str(folder / RAY_FOLDER)
    if tune.Tuner.can_restore(notes):
        return tune.Tuner.restore(notes, trainable, resume_unfinished=True, resume_errored=False)
    space, searcher = asked_of_ray(study, records)
    # What is known beforehand is gone through once.
    num_samples = 1 if searcher is None else int(study.num_trials or 0)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler_of(study),
            num_samples=num_samples,
            max_concurrent_trials=at_once,
            time_budget_s=study.total_seconds,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=RAY_FOLDER,
            storage_path=str(folder),
            verbose=0,
            callbacks=[HandOn()],
            stop=EpochBudget(study.total_epochs) if study.total_epochs else None,
            failure_config=tune.FailureConfig(max_failures=resources.max_restarts),
        ),
    )


def _name(trial: Any) -> str:
    """Name a trial of Ray's by its number."""
    return variant_of(trial.config).version


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let Ray be silent: how trials go, fail and are lost is said by the listener, a line each and no traceback."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "optuna")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
