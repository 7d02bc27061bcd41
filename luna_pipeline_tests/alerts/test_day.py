"""A simulated day: runs that fail in every way, in random order, and receivers that fail a third of the time."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import dagster as dg
import pytest

from luna_pipeline.alerts import channels as channels_module
from luna_pipeline.alerts.channels import Channels
from luna_pipeline.alerts.outcome import RETRY_LIMIT_SECONDS
from luna_pipeline_tests.alerts.failed_runs import QUEUED, begun, ended, failed, nested, retried
from luna_pipeline_tests.alerts.receivers import Webhook, webhook_running
from luna_pipeline_tests.alerts.test_sensor import Receiver, tick

NUM_RUNS = 500
NUM_TICKS = 160
SECONDS_PER_TICK = 86_400 / NUM_TICKS
RETRY_TICKS = -int(-RETRY_LIMIT_SECONDS // SECONDS_PER_TICK)


@dataclass
class Day:
    """The day so far; ``due`` holds the tick at which each run that is to be reported becomes due."""

    instance: dg.DagsterInstance
    chance: random.Random
    tick: int = 0
    due: dict[str, int] = field(default_factory=dict)

    def begun(self, **arguments) -> dg.DagsterRun:
        """A run by the queue or by the command line."""
        return begun(self.instance, remote_job_origin=self.chance.choice([QUEUED, None]), **arguments)

    def end(self, run: dg.DagsterRun, how: str) -> None:
        ended(self.instance, run, how)

    def expect(self, run: dg.DagsterRun, *, after_ticks: int = 0) -> None:
        assert run.run_id not in self.due
        self.due[run.run_id] = self.tick + after_ticks

    def some_ticks(self) -> int:
        return self.chance.randrange(4)


# Each story yields the number of ticks until it continues.
Story = Callable[[Day], Iterator[int]]


def fails(day: Day) -> Iterator[int]:
    run = day.begun(tags={"dagster/max_retries": "0"})
    yield day.some_ticks()
    day.end(run, "failure")
    day.expect(run)


def ends_otherwise(day: Day) -> Iterator[int]:
    run = day.begun()
    yield day.some_ticks()
    day.end(run, day.chance.choice(["success", "canceled"]))


def is_killed_on_the_command_line(day: Day) -> Iterator[int]:
    day.expect(failed(day.instance, max_retries=None))
    yield 0


def has_a_retry(day: Day) -> Iterator[int]:
    run = failed(day.instance, max_retries=None, remote_job_origin=QUEUED)
    yield day.chance.randrange(2)
    retry = retried(day.instance, run)
    yield day.some_ticks()
    how = day.chance.choice(["success", "failure", "canceled"])
    day.end(retry, how)
    if how != "success":
        day.expect(retry if how == "failure" else run)


def has_a_retry_that_never_comes(day: Day) -> Iterator[int]:
    run = failed(day.instance, max_retries=None, remote_job_origin=QUEUED)
    day.expect(run, after_ticks=RETRY_TICKS)
    yield 0


def fails_inside_another(day: Day) -> Iterator[int]:
    outer = day.begun(tags={"dagster/max_retries": "0"})
    inner = nested(day.instance, outer)
    yield day.some_ticks()
    day.end(inner, "failure")
    yield day.some_ticks()
    how = day.chance.choice(["success", "failure", "failure", "canceled", "deleted"])
    if how == "deleted":
        day.instance.delete_run(outer.run_id)
    else:
        day.end(outer, how)
    day.expect(outer if how == "failure" else inner)


def is_executed_again_by_a_person(day: Day) -> Iterator[int]:
    outer = day.begun(tags={"dagster/max_retries": "0"})
    inner = nested(day.instance, outer)
    for run in (inner, outer):
        day.end(run, "failure")
    day.expect(outer)
    yield day.some_ticks()
    again = nested(day.instance, outer, parent_run_id=inner.run_id, root_run_id=inner.run_id)
    yield day.some_ticks()
    day.end(again, "failure")
    day.expect(again)


STORIES: dict[Story, int] = {
    fails: 4,
    ends_otherwise: 2,
    is_killed_on_the_command_line: 2,
    has_a_retry: 3,
    has_a_retry_that_never_comes: 1,
    fails_inside_another: 3,
    is_executed_again_by_a_person: 1,
}


def _told_stories(day: Day) -> Iterator[None]:
    """Let stories begin at random ticks of the day, until they have enough runs; yield after each tick's part."""
    last_start = NUM_TICKS - 20
    running: list[tuple[int, Iterator[int]]] = []
    for day.tick in range(NUM_TICKS):
        while day.tick < last_start and day.instance.get_runs_count() < NUM_RUNS * day.tick / last_start:
            (story,) = day.chance.choices(list(STORIES), list(STORIES.values()))
            begins = story(day)
            running.append((day.tick + next(begins), begins))
        day.chance.shuffle(running)
        for entry in [entry for entry in running if entry[0] <= day.tick]:
            running.remove(entry)
            wait_ticks = next(entry[1], None)
            if wait_ticks is not None:
                running.append((day.tick + wait_ticks, entry[1]))
        yield
    assert not running


def _outages(chance: random.Random) -> list[bool]:
    """Return by tick whether a receiver is away: a third of the day, for some ticks each time, not at its end."""
    away: list[bool] = []
    while len(away) < NUM_TICKS:
        away += [False] * chance.randint(2, 10) + [True] * chance.randint(1, 5)
    return [*away[: NUM_TICKS - 5], *[False] * 5]


def _assert_reported(day: Day, reported: dict[int, list[str]], away: list[bool]) -> None:
    """Every run that was due is reported once, within two ticks after it was due and its receiver was back."""
    counts = Counter(run_id for run_ids in reported.values() for run_id in run_ids)
    assert counts == Counter(day.due.keys())
    for tick_number, run_ids in reported.items():
        for run_id in run_ids:
            due = day.due[run_id]
            back = next(number for number in range(due, NUM_TICKS) if not away[number])
            assert due <= tick_number <= back + 2, (run_id, due, back, tick_number)


def test_every_failure_of_a_day_is_reported_once_on_each_channel(instance, monkeypatch: pytest.MonkeyPatch):
    # Long enough for a busy machine: an answer that comes later is taken for none, and the run is reported again.
    monkeypatch.setattr(channels_module, "TIMEOUT_SECONDS", 1.0)
    day = Day(instance, random.Random(18))
    away = {name: _outages(day.chance) for name in ("webhook", "chat")}
    # Refused, closed without an answer, or no answer within the limit.
    answers = iter(lambda: day.chance.choice([503, 0, 1.5]), None)
    chat = Receiver("chat", is_down=lambda: away["chat"][day.tick])
    reported: dict[str, dict[int, list[str]]] = {"webhook": {}, "chat": {}}
    with webhook_running(lambda: next(answers) if away["webhook"][day.tick] else 200) as webhook:
        (posting,) = Channels.from_environment({"LUNA_ALERT_WEBHOOK": webhook.address}).usable
        tick(instance, chat)
        for _ in _told_stories(day):
            posted = _as_receiver(webhook, posting)
            tick(instance, posted, chat, now=(day.tick + 1) * SECONDS_PER_TICK)
            reported["webhook"][day.tick] = [run["run_id"] for post in webhook.posts for run in post["runs"]]
            reported["chat"][day.tick] = chat.told
            webhook.posts.clear()
            chat.messages.clear()
    assert day.instance.get_runs_count() > NUM_RUNS - 50
    assert len(day.due) > NUM_RUNS / 3
    for name, ticks in reported.items():
        _assert_reported(day, ticks, away[name])


def _as_receiver(webhook: Webhook, channel: channels_module.Channel) -> Receiver:
    receiver = Receiver()
    receiver.channel = channel
    return receiver
