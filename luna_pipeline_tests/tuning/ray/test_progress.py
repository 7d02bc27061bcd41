"""Records and progress lines of a running study, with stand-ins for Ray's trials."""

from types import SimpleNamespace

import pytest

from luna_pipeline.tuning.ray.progress import LISTENER, HandOn, StudyListener, last_line
from luna_pipeline.tuning.ray.search import plain_variant
from luna_pipeline.tuning.records import TrialEnd, TrialProgress, TrialRecords
from luna_pipeline.tuning.study import Variant
from luna_pipeline_tests.tuning.made_studies import scored


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def listening(tmp_path, clock, lines):
    """Create a listener of a new or resumed study of three trials of five epochs."""

    def begin(**more) -> StudyListener:
        values = {"num_epochs": 5, "num_trials": 3, "metric": "cpm", "clock": clock, **more}
        return StudyListener(records=TrialRecords(tmp_path), say=lines.append, **values)

    return begin


@pytest.fixture
def listener(listening) -> StudyListener:
    return listening()


def trial_of_ray(number: int, epoch: int = 0, score: float = 0.0, *, status: str = "RUNNING", **more):
    """A stand-in for a Ray trial, with its last result."""
    changes = {"batch_size": 4 * number} if number else {}
    result = {"epoch": epoch, "score": score, "error": ""} if epoch else {}
    values = {"last_result": result, "status": status, "num_failures": 0, **more}
    return SimpleNamespace(config={"variant": plain_variant(Variant(number, changes))}, **values)


def reached(epoch: int, score: float, error: str = "") -> dict:
    return {"epoch": epoch, "score": score, "error": error}


def test_a_line_says_what_has_ended_what_runs_and_what_is_best(listener, lines):
    one, other, waiting = trial_of_ray(0, 1, 0.5), trial_of_ray(1, 3, 0.4), trial_of_ray(2, status="PENDING")
    # Ray updates the last result after its callbacks.
    listener.hear(one, reached(2, 0.625), [one, other, waiting])
    assert lines == ["0 of 3 trials ended; trial 0 at epoch 2, trial 1 at epoch 3; best so far trial 0 with cpm 0.6250"]


def test_a_trial_that_has_just_begun_is_at_epoch_0(listener, lines):
    one, fresh = trial_of_ray(0), trial_of_ray(1, last_result=None)
    listener.hear(one, reached(1, 0.5), [one, fresh])
    assert "trial 0 at epoch 1, trial 1 at epoch 0;" in lines[0]


def test_there_is_a_line_in_thirty_seconds_and_no_more(listener, clock, lines):
    trial = trial_of_ray(0)
    for second in range(95):
        clock.seconds = 1000.0 + second
        listener.hear(trial, reached(1 + second // 20, 0.5), [trial])
    # At 0, 30, 60 and 90 seconds.
    assert [line.partition("; ")[2].partition(";")[0] for line in lines] == [
        "trial 0 at epoch 1",
        "trial 0 at epoch 2",
        "trial 0 at epoch 4",
        "trial 0 at epoch 5",
    ]


def test_an_end_is_said_at_once_and_begins_the_thirty_seconds_anew(listener, clock, lines):
    trial = trial_of_ray(0, 5, 0.5)
    listener.hear(trial, reached(4, 0.5), [trial])
    clock.seconds += 29
    listener.end(trial)
    clock.seconds += 29
    listener.hear(trial_of_ray(1), reached(1, 0.5), [])
    assert len(lines) == 2
    clock.seconds += 1
    listener.hear(trial_of_ray(1), reached(2, 0.5), [])
    assert len(lines) == 3


def best_in(line: str) -> str:
    return line.rpartition("; ")[2]


def test_the_best_is_the_lower_number_of_equals_and_never_one_that_failed(listener, clock, lines):
    told = [
        (2, reached(1, 0.5), "best so far trial 2 with cpm 0.5000"),
        (1, reached(1, 0.5), "best so far trial 1 with cpm 0.5000"),
        (2, reached(2, 0.5), "best so far trial 1 with cpm 0.5000"),
        (0, reached(2, 0.9, "ValueError: no"), "best so far trial 1 with cpm 0.5000"),
        (2, reached(3, 0.6), "best so far trial 2 with cpm 0.6000"),
        (1, reached(2, 0.55), "best so far trial 2 with cpm 0.6000"),
    ]
    for number, result, _ in told:
        clock.seconds += 30
        trial = trial_of_ray(number)
        listener.hear(trial, result, [trial])
    assert [best_in(line) for line in lines] == [best for _, _, best in told]


def test_before_the_first_score_there_is_none(listener, lines):
    trial = trial_of_ray(0)
    listener.hear(trial, reached(0, 0.0, "ValueError: no"), [trial])
    assert lines == ["0 of 3 trials ended; trial 0 at epoch 0; no score yet"]


def test_how_many_trials_there_will_be_is_said_where_it_is_known(listening, lines):
    trial = trial_of_ray(0)
    listening(num_trials=None).hear(trial, reached(1, 0.5), [trial])
    assert lines[0].startswith("0 trials ended; ")


@pytest.mark.parametrize(
    ("trial", "end", "line"),
    [
        (
            trial_of_ray(0, 5, 0.75),
            TrialEnd(trial=0, changes={}, state="finished"),
            "1 of 3 trials ended: trial 0 finished with cpm 0.7500 (the recipe as it is)",
        ),
        (
            trial_of_ray(1, 4, 0.5, num_failures=2),
            TrialEnd(trial=1, changes={"batch_size": 4}, state="stopped_early", num_restarts=2),
            "1 of 3 trials ended: trial 1 stopped early with cpm 0.5000 (batch_size=4)",
        ),
        (
            trial_of_ray(1, last_result=reached(5, 0.0, "ValueError: no"), num_failures=1),
            TrialEnd(trial=1, changes={"batch_size": 4}, state="failed", error="ValueError: no", num_restarts=1),
            "1 of 3 trials ended: trial 1 failed: ValueError: no (batch_size=4)",
        ),
        (
            trial_of_ray(2),
            TrialEnd(trial=2, changes={"batch_size": 8}, state="stopped_early"),
            "1 of 3 trials ended: trial 2 stopped early (batch_size=8)",
        ),
    ],
)
def test_an_end_is_kept_and_said(listener, lines, trial, end, line):
    listener.end(trial)
    assert listener.records.ended() == {end.trial: end}
    assert lines == [line]


def test_an_end_is_noted_once(listener, lines):
    listener.end(trial_of_ray(0, 5, 0.75))
    listener.end(trial_of_ray(0, 5, 0.75), error="its process was lost too often")
    assert listener.records.ended() == {0: TrialEnd(trial=0, changes={}, state="finished")}
    assert len(lines) == 1
    listener.end(trial_of_ray(1, 5, 0.5))
    assert lines[1].startswith("2 of 3 trials ended: ")


def test_a_trial_that_is_given_up_was_restarted_once_less_than_it_failed(listener, lines):
    listener.end(trial_of_ray(1, 2, 0.5, num_failures=4), error="its process was lost too often")
    assert listener.records.ended()[1] == TrialEnd(
        trial=1, changes={"batch_size": 4}, state="failed", error="its process was lost too often", num_restarts=3
    )
    assert lines == ["1 of 3 trials ended: trial 1 failed: its process was lost too often (batch_size=4)"]
    # A trial that died with its node does not count as a failure.
    listener.end(trial_of_ray(2, num_failures=0), error="its process was lost too often")
    assert listener.records.ended()[2].num_restarts == 0


def test_a_lost_process_is_said_at_once(listener, lines):
    listener.lost(trial_of_ray(2))
    assert lines == ["The process of trial 2 died; it resumes from its last checkpoint"]


def test_a_study_that_is_taken_up_again_goes_on_counting(listening, tmp_path, lines):
    records = TrialRecords(tmp_path)
    records.end(TrialEnd(trial=0, changes={}, state="finished"))
    for trial, error, scores in ((0, "", (0.6, 0.7, 0.5)), (1, "ValueError: no", (0.9,)), (2, "", ())):
        epochs = tuple(scored(epoch, score) for epoch, score in enumerate(scores, start=1))
        records.keep(TrialProgress(variant=Variant(trial), epochs=epochs, error=error))
    listener = listening()
    listener.hear(trial_of_ray(2), reached(1, 0.65), [])
    assert lines[0].startswith("1 of 3 trials ended; ")
    assert best_in(lines[0]) == "best so far trial 0 with cpm 0.7000"
    listener.end(trial_of_ray(2, 5, 0.65))
    assert lines[1].startswith("2 of 3 trials ended: trial 2 ")


@pytest.fixture
def handed_on(listener):
    """The callback that Ray calls, with a listener."""
    token = LISTENER.set(listener)
    yield HandOn()
    LISTENER.reset(token)


def test_what_ray_tells_is_handed_on(handed_on, listener, lines):
    trial = trial_of_ray(1, 1, 0.25)
    handed_on.on_trial_result(1, [trial], trial, reached(2, 0.5))
    handed_on.on_trial_recover(2, [trial], trial)
    handed_on.on_trial_complete(3, [trial], trial)
    assert lines == [
        "0 of 3 trials ended; trial 1 at epoch 2; best so far trial 1 with cpm 0.5000",
        "The process of trial 1 died; it resumes from its last checkpoint",
        "1 of 3 trials ended: trial 1 stopped early with cpm 0.2500 (batch_size=4)",
    ]
    assert listener.records.ended()[1].state == "stopped_early"


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (ValueError("Traceback (most recent call last):\n  File\n\nRuntimeError: gone\n\n"), "RuntimeError: gone"),
        (None, "its process was lost too often"),
    ],
)
def test_a_trial_that_ray_gave_up_has_the_last_line_of_its_error(handed_on, listener, error, kept):
    trial = trial_of_ray(1, 1, 0.5, num_failures=4, get_error=lambda: error)
    handed_on.on_trial_error(1, [trial], trial)
    assert listener.records.ended()[1] == TrialEnd(
        trial=1, changes={"batch_size": 4}, state="failed", error=kept, num_restarts=3
    )


@pytest.mark.parametrize(("text", "line"), [("a\n  b: c \n \n", "b: c"), ("only", "only"), ("", ""), (" \n\n", "")])
def test_the_last_line_is_that_which_says_something(text, line):
    assert last_line(text) == line
