"""A trial in this process: its reports, its files, and how it is resumed."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from luna_pipeline.core.datasets.splits import TrainingSplit, index_fingerprint, split_index
from luna_pipeline.core.evaluation.official import evaluate_froc
from luna_pipeline.core.evaluation.reference import read_reference
from luna_pipeline.core.events.messages import LogCheckpoint, LogMetrics, LogResult, Mode
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.launchers.evaluation.scoring import predict_table, prediction_rows
from luna_pipeline.tracking.handlers import handlers_by_message
from luna_pipeline.tracking.outbox import RetryingMessageHandler
from luna_pipeline.tuning.records import FINISHED, EpochScore, TrialEnd, TrialProgress, TrialRecords
from luna_pipeline.tuning.study import Variant
from luna_pipeline.tuning.study_folder import StudyFolder
from luna_pipeline.tuning.trial import CpmOfFold, TrialReporter, TrialTask, reported
from luna_pipeline_tests.tuning.searched import searched, study_of_rates

__all__ = ["searched"]

FAST = Variant(2, {"optimizer.learning_rate": 0.003})


@pytest.fixture
def task(searched, small_config) -> TrialTask:
    home, settings = searched
    study = study_of_rates(small_config)
    reference = read_reference(settings.data_dir, pd.read_parquet(settings.tables_dir / "folds.parquet"), of_folds=[1])
    here = home.path / "tuning/a/b"
    return TrialTask(
        settings=settings,
        study=study,
        place=StudyFolder(folder=here, local_folder=here, is_new=True),
        split=TrainingSplit(test_fold=0, validation_fold=1),
        reference=reference,
        num_threads=1,
        mlflow_run_id=None,
        index_digest=index_fingerprint(pd.read_parquet(settings.tables_dir / "cutout_index.parquet")),
    )


def run(task: TrialTask, variant: Variant = FAST, *, until: int | None = None) -> list[dict]:
    """Run a trial that is stopped at its report of the epoch ``until``, as Ray stops trials."""
    reports: list[dict] = []

    def report(values: dict) -> None:
        reports.append(values)
        if values["epoch"] == until:
            raise SystemExit

    if until is None:
        task.run(variant, report)
    else:
        with pytest.raises(SystemExit):
            task.run(variant, report)
    return reports


def kept(task: TrialTask, variant: Variant = FAST):
    return TrialRecords(task.place.folder).progress(variant)


def checkpoint_of(task: TrialTask, kind: str = "last"):
    return load_checkpoint(task.place.folder / "checkpoints/nodule_classifier/trial-0002" / f"{kind}.pt")


@pytest.mark.seed_defect(39, 68)
def test_each_epoch_is_reported_with_its_validation_score_and_its_checkpoint(task):
    reports = run(task)
    assert [values["epoch"] for values in reports] == [1, 2, 3]
    progress = kept(task)
    scores = [epoch.score for epoch in progress.epochs]
    # The reported score is the best so far, which cannot fall.
    assert [values["score"] for values in reports] == list(np.maximum.accumulate(scores))
    assert all(values["error"] == "" for values in reports)
    assert reports[-1]["checkpoint"] == str(task.place.folder / "checkpoints/nodule_classifier/trial-0002/last.pt")
    assert all(epoch.seconds > 0 for epoch in progress.epochs)


def test_the_score_is_the_cpm_of_the_validation_fold_as_the_evaluation_has_it(task):
    run(task)
    home_index = pd.read_parquet(task.settings.tables_dir / "cutout_index.parquet")
    _, validation, _ = split_index(home_index, task.split)
    candidates = pd.read_parquet(task.settings.tables_dir / "candidates.parquet")
    store = _store(task)
    predicted = predict_table(checkpoint_of(task, "last"), validation, candidates, store)
    result = evaluate_froc(task.reference.tables_of(predicted), num_bootstraps=0, seed=0)
    last = kept(task).epochs[-1]
    assert last.epoch == 3
    assert last.score == last.cpm == result.curve.comparable_cpm
    assert last.score > 0


def test_without_a_reference_the_score_is_the_auc(task):
    reports = run(replace(task, reference=None, study=replace(task.study, metric="auc")))
    last = kept(task).epochs[-1]
    assert last.score == last.auc
    assert math.isnan(last.cpm)
    assert reports[-1]["score"] == max(epoch.auc for epoch in kept(task).epochs)


def test_a_trial_that_was_lost_goes_on_after_its_last_checkpoint_to_the_same_bits(task):
    run(task)
    alone, scores = checkpoint_of(task), [epoch.score for epoch in kept(task).epochs]
    elsewhere = task.place.folder.with_name("c")
    again = replace(task, place=replace(task.place, folder=elsewhere, local_folder=elsewhere))
    assert [values["epoch"] for values in run(again, until=2)] == [1, 2]
    assert [values["epoch"] for values in run(again)] == [3]
    for name, value in alone.model_state.items():
        assert torch.equal(checkpoint_of(again).model_state[name], value), name
    assert [epoch.score for epoch in kept(again).epochs] == scores


def test_one_lost_after_its_last_report_or_before_its_first_checkpoint_is_not_trained_twice(task):
    folder = task.place.folder / "checkpoints/nodule_classifier/trial-0002"
    folder.mkdir(parents=True)
    # Killed before anything was written: the folder of the version is empty.
    run(task, until=3)
    (version,) = [path.name for path in folder.parent.iterdir() if (path / "last.pt").exists()]
    before = (folder.parent / version / "last.pt").stat().st_mtime_ns
    # Killed between the last checkpoint and its report: reported again without another training step.
    assert [values["epoch"] for values in run(task)] == [3]
    assert (folder.parent / version / "last.pt").stat().st_mtime_ns == before


def test_a_trial_that_is_over_only_says_what_it_was_worth(task):
    run(task)
    progress = kept(task)
    TrialRecords(task.place.folder).end(TrialEnd(trial=2, changes=FAST.changes, state=FINISHED))
    before = (task.place.folder / "checkpoints/nodule_classifier/trial-0002/best.pt").stat().st_mtime_ns
    (told,) = run(task)
    assert told == {"epoch": 3, "score": progress.best().score, "error": ""}
    assert (task.place.folder / "checkpoints/nodule_classifier/trial-0002/best.pt").stat().st_mtime_ns == before


def test_what_a_configuration_does_wrong_is_reported_once_and_for_all(task):
    wrong = Variant(3, {"network.n_blocks": 3, "network.chunk_shape_irc": (16, 16, 16)})
    (told,) = run(task, wrong)
    assert (told["epoch"], told["score"]) == (0, 0.0)
    assert told["error"].startswith("ValueError: Cutouts must have the shape of the network's input (16, 16, 16), got")
    assert kept(task, wrong).error == told["error"]
    # It would fail again: Ray's retry reads the error from the record.
    assert run(task, wrong) == [told]


def test_what_may_pass_is_raised_so_that_ray_tries_again(task):
    (task.settings.tables_dir / "cutout_index.parquet").rename(task.settings.tables_dir / "away")
    with pytest.raises(FileNotFoundError, match="Cutouts must be there to train on"):
        task.run(FAST, lambda _values: None)
    assert kept(task).error == ""


def test_a_worker_that_sees_other_cutouts_is_refused(task):
    path = task.settings.tables_dir / "cutout_index.parquet"
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    (told,) = run(task)
    assert told["error"].startswith("ValueError: All trials must see one cutout index, got another")


def test_scores_of_other_candidates_are_no_cpm(task, searched):
    home, _ = searched
    rows = home.index[(home.index["fold"] == 1) & (home.index["source"] == "candidate")]
    cpm = CpmOfFold(prediction_rows(rows, home.candidates, 0.0, model="trial"), task.reference)
    labels = rows["class"].to_numpy(dtype=np.int64)
    message = LogResult(epoch=1, mode=Mode.VALIDATION, num_samples_seen=1, labels=labels, scores=labels * 1.0)
    assert cpm(message) == 1.0
    assert cpm(replace(message, scores=1.0 - labels)) < 0.5
    with pytest.raises(ValueError, match="Scores must be of the 10 candidates of the validation fold, got 9 of others"):
        cpm(replace(message, labels=labels[1:], scores=labels[1:] * 1.0))


def test_a_score_that_cannot_be_had_fails_the_trial_and_not_only_its_listener(tmp_path):
    def scoring(_message: LogResult) -> float:
        msg = "no such score"
        raise ValueError(msg)

    reports: list[dict] = []
    reporter = TrialReporter(TrialRecords(tmp_path), TrialProgress(variant=FAST), reports.append, scoring)
    handler = RetryingMessageHandler(handlers_by_message([reporter.handlers()]))
    where = {"epoch": 1, "mode": Mode.VALIDATION, "num_samples_seen": 4}
    handler.handle_message(LogMetrics(values={"auc": 0.5, "loss": 1.0}, **where))
    # A run continues when a tracker rejects a message.
    handler.handle_message(LogResult(labels=np.array([0, 1]), scores=np.array([0.1, 0.9]), **where))
    assert reporter.progress.epochs == ()
    with pytest.raises(ValueError, match="no such score"):
        handler.handle_message(LogCheckpoint(epoch=1, num_samples_seen=4, path="last.pt"))
    assert reports == []


def test_what_ray_is_told_is_the_best_so_far_and_nothing_of_a_trial_that_failed():
    begun = TrialProgress(variant=FAST)
    assert reported(begun) == {"epoch": 0, "score": 0.0, "error": ""}
    reached = begun
    for epoch, score in ((1, 0.9), (2, 0.7)):
        reached = reached.with_epoch(
            EpochScore(epoch=epoch, score=score, auc=score, cpm=math.nan, loss=1.0, seconds=1.0)
        )
    assert reported(reached) == {"epoch": 2, "score": 0.9, "error": ""}
    assert reported(replace(reached, error="broken")) == {"epoch": 2, "score": 0.0, "error": "broken"}


def _store(task: TrialTask):
    from luna_pipeline.launchers.installation import cutout_store

    return cutout_store(task.settings)
