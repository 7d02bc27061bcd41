import math
from dataclasses import replace
from pathlib import Path

import pytest

from luna_pipeline.core.storage.files import listing
from luna_pipeline.core.storage.s3 import remote_path
from luna_pipeline.tuning.records import EpochScore, TrialEnd, TrialProgress, TrialRecords
from luna_pipeline.tuning.study import Variant
from luna_pipeline_tests.tuning.made_studies import scored

CHANGES = {"optimizer.learning_rate": 0.1 + 0.2, "optimizer.betas": (0.9, 0.99), "network.options": (("levels", 2),)}
VARIANT = Variant(3, CHANGES)


@pytest.fixture
def records(tmp_path: Path) -> TrialRecords:
    return TrialRecords(tmp_path / "study")


def progress_of(*scores: float, trial: int = 3) -> TrialProgress:
    epochs = tuple(scored(epoch, score) for epoch, score in enumerate(scores, start=1))
    return TrialProgress(variant=Variant(trial, CHANGES), epochs=epochs)


def test_a_trial_that_was_not_begun_has_no_epochs(records):
    assert records.progress(VARIANT) == TrialProgress(variant=VARIANT)
    assert records.all_progress() == records.ended() == {}
    assert not records.has_ended(3)


def test_what_is_kept_of_a_trial_is_read_again_to_the_last_digit(records):
    progress = replace(progress_of(0.1 + 0.2, 1 / 3), error="ValueError: no, never ä")
    records.keep(progress)
    assert records.progress(VARIANT) == progress
    assert records.all_progress() == {3: progress}
    assert list(listing(records.folder)) == ["trials/0003.json"]


def test_records_in_s3_are_those_of_a_disk(s3_home):
    records = TrialRecords(remote_path(s3_home) / "study")
    assert records.all_progress() == records.ended() == {}
    end = TrialEnd(trial=3, changes=CHANGES, state="finished")
    records.keep(progress_of(0.1 + 0.2))
    records.end(end)
    assert records.all_progress() == {3: progress_of(0.1 + 0.2)}
    assert records.ended() == {3: end}
    assert (records.has_ended(3), records.has_ended(2)) == (True, False)
    assert sorted(listing(records.folder)) == ["trials/0003.json", "trials/0003_ended.json"]


def test_what_is_kept_later_takes_the_place(records):
    records.keep(progress_of(0.5))
    records.keep(progress_of(0.5, 0.6))
    assert records.progress(VARIANT) == progress_of(0.5, 0.6)


def test_a_score_that_is_not_defined_stays_so(tmp_path):
    records = TrialRecords(tmp_path)
    records.keep(TrialProgress(variant=VARIANT, epochs=(replace(scored(1, 0.5), cpm=math.nan),)))
    epoch = records.progress(VARIANT).epochs[0]
    assert math.isnan(epoch.cpm)
    assert (epoch.score, epoch.auc) == (0.5, 0.51)


def test_an_end_is_read_again(records):
    end = TrialEnd(trial=3, changes=CHANGES, state="stopped_early", num_restarts=2, error="OSError: full")
    records.end(end)
    assert records.ended() == {3: end}
    assert records.has_ended(3)
    assert not records.has_ended(2)
    # Its progress is in another file.
    assert records.all_progress() == {}
    assert list(listing(records.folder)) == ["trials/0003_ended.json"]


def test_ends_and_progress_come_by_their_numbers_rising(tmp_path):
    records = TrialRecords(tmp_path)
    # As strings, 10000 sorts before 9999.
    for trial in (10000, 9999, 2, 0):
        records.end(TrialEnd(trial=trial, changes={}, state="finished"))
        records.keep(progress_of(trial / 20000, trial=trial))
    assert list(records.ended()) == list(records.all_progress()) == [0, 2, 9999, 10000]
    assert records.all_progress()[9999].epochs[0].score == 9999 / 20000
    assert records.ended()[9999].trial == 9999


def test_another_configuration_under_a_number_is_refused(records):
    records.keep(progress_of(0.5))
    with pytest.raises(
        ValueError, match="A trial must go on with its own configuration, got batch_size=4 for"
    ) as refusal:
        records.progress(Variant(3, {"batch_size": 4}))
    assert str(refusal.value).endswith("(trial 3). Begin a new study.")
    assert "optimizer.learning_rate=0.3, " in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_epoch_more_comes_behind_the_others():
    assert progress_of(0.5).with_epoch(scored(2, 0.4)) == progress_of(0.5, 0.4)


def test_an_epoch_done_again_takes_the_place_of_itself_and_all_later_ones():
    again = progress_of(0.5, 0.6, 0.7, 0.8).with_epoch(scored(3, 0.65))
    assert again == progress_of(0.5, 0.6, 0.65)


def test_the_best_epoch_is_the_first_of_equals():
    assert progress_of(0.5, 0.7, 0.7, 0.6).best() == scored(2, 0.7)
    assert progress_of().best() is None


def test_the_best_epoch_is_that_with_the_highest_score_whatever_else_it_has():
    low = EpochScore(epoch=1, score=0.5, auc=0.99, cpm=0.99, loss=0.01, seconds=1.0)
    high = EpochScore(epoch=2, score=0.6, auc=0.6, cpm=math.nan, loss=9.0, seconds=1.0)
    assert TrialProgress(variant=VARIANT, epochs=(low, high)).best() is high


def test_an_epoch_without_a_score_is_the_best_of_none_but_its_like():
    assert progress_of(math.nan, 0.2, 0.1).best() == scored(2, 0.2)
    assert progress_of(0.2, math.nan).best() == scored(1, 0.2)
    assert progress_of(math.nan).best().epoch == 1
