"""Run or resume a study with Ray Tune."""

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
    """Run all trials of a study in a Ray session; their results are in their records.

    Args:
        study: Configuration of the study.
        run_trial: Runs a variant in a Ray worker; reports ``EPOCH``, ``SCORE`` and ``ERROR``. Retried if it raises.
        folder: On the driver's machine, for Ray's state; a study whose state is there is resumed.
        listener: Receives results and ends of trials.
        there: Resources of the session.
        resources: Resources of a trial.

    Raises:
        ValueError: If the resources do not suffice for one trial.
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
    # Variants that are known in advance are one grid, run once.
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
    """Return Ray's name of a trial."""
    return variant_of(trial.config).version


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Ray: the listener reports results and failures in one line each."""
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
