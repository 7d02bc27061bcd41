"""The sensor: each failed run is told once on each channel, whatever happens between two ticks."""

from collections.abc import Callable

import dagster as dg
import pytest

from luna_pipeline.alerts import sensor
from luna_pipeline.alerts.channels import Channel, ChannelError, Channels
from luna_pipeline.alerts.content import Message
from luna_pipeline.alerts.outcome import RETRY_LIMIT_SECONDS
from luna_pipeline.alerts.records import Records
from luna_pipeline_tests.alerts.failed_runs import QUEUED, begun, ended, failed
from luna_pipeline_tests.alerts.receivers import Webhook
from luna_pipeline_tests.processes import free_port


class Receiver:
    """A channel without a network: keeps the messages that it took; ``is_down`` refuses them."""

    def __init__(self, name: str = "receiver", *, is_down: Callable[[], bool] = lambda: False, max_runs: int = 200):
        self.messages: list[list[str]] = []
        self.num_calls = 0
        self.is_down = is_down
        self.channel = Channel(name, name, max_runs, self._take)

    def _take(self, message: Message) -> None:
        self.num_calls += 1
        if self.is_down():
            msg = "HTTP 503"
            raise ChannelError(msg)
        self.messages.append([alert.run_id for alert in message.alerts])

    @property
    def told(self) -> list[str]:
        return [run_id for message in self.messages for run_id in message]


def killed(*_: object, **__: object) -> None:
    raise SystemExit


def tick(instance: dg.DagsterInstance, *receivers: Receiver, now: float = 0, problems: tuple[str, ...] = ()) -> str:
    """Evaluate the sensor; return what it says, also of an error."""
    channels = Channels([receiver.channel for receiver in receivers], list(problems))
    try:
        return sensor.tick(instance, channels, now=now, dagster_url="")
    except RuntimeError as error:
        return f"error: {error}"


def test_tick_that_meets_runs_to_be_told_and_to_be_skipped_tells_once(instance):
    receiver = Receiver()
    tick(instance, receiver)
    told, skipped = failed(instance), failed(instance, tags={"luna/parent_run_id": failed(instance).run_id})
    for _ in range(5):
        assert not tick(instance, receiver).startswith("error")
    assert told.run_id in receiver.told
    assert skipped.run_id not in receiver.told
    assert len(receiver.told) == len(set(receiver.told)) == 2


def test_burst_of_failures_is_one_message_and_a_narrow_channel_gets_several(instance):
    wide, narrow = Receiver("wide"), Receiver("narrow", max_runs=4)
    tick(instance, wide, narrow)
    runs = [failed(instance).run_id for _ in range(10)]
    tick(instance, wide, narrow)
    assert wide.messages == [runs]
    assert [len(message) for message in narrow.messages] == [4, 4, 2]
    assert narrow.told == runs


def test_answer_503_once_delays_the_alarm_by_a_tick(instance):
    answers = iter([True])
    receiver = Receiver(is_down=lambda: next(answers, False))
    tick(instance, receiver)
    run = failed(instance)
    assert "receiver: HTTP 503" in tick(instance, receiver)
    assert not tick(instance, receiver).startswith("error")
    tick(instance, receiver)
    assert receiver.messages == [[run.run_id]]


def test_channel_that_is_down_for_hours_gets_one_message_and_the_other_nothing_twice(instance):
    state = {"down": True}
    up, down = Receiver("up"), Receiver("down", is_down=lambda: state["down"])
    tick(instance, up, down)
    runs = []
    for hour in range(4):
        runs.append(failed(instance).run_id)
        for minute in range(6):
            tick(instance, up, down, now=hour * 3600 + minute * 600)
    assert up.messages == [[run_id] for run_id in runs]
    # Every other tick at most.
    assert down.num_calls <= 14
    state["down"] = False
    for _ in range(2):
        tick(instance, up, down, now=4 * 3600)
    assert down.messages == [runs]
    assert up.messages == [[run_id] for run_id in runs]


def test_tick_that_is_killed_after_one_channel_tells_the_other_at_the_next(instance):
    first, second = Receiver("first"), Receiver("second", is_down=killed)
    tick(instance, first, second)
    run = failed(instance)
    with pytest.raises(SystemExit):
        tick(instance, first, second)
    second.is_down = lambda: False
    for _ in range(2):
        tick(instance, first, second)
    assert first.told == second.told == [run.run_id]


def test_tick_that_is_killed_between_sending_and_recording_tells_again_and_not_never(instance, monkeypatch):
    receiver = Receiver()
    tick(instance, receiver)
    run = failed(instance)
    with monkeypatch.context() as patches:
        patches.setattr(sensor._Sending, "_record", killed)
        with pytest.raises(SystemExit):
            tick(instance, receiver)
    for _ in range(2):
        tick(instance, receiver)
    assert receiver.told == [run.run_id] * 2


def test_first_tick_tells_nothing_of_the_past_and_everything_after_it(instance):
    receiver = Receiver()
    old = [failed(instance).run_id for _ in range(30)]
    assert "30 runs that failed before it are not reported" in tick(instance, receiver)
    new = failed(instance)
    tick(instance, receiver)
    assert receiver.told == [new.run_id]
    assert new.run_id not in old


def test_daemon_that_was_down_for_a_day_tells_what_failed_meanwhile(instance):
    receiver = Receiver()
    tick(instance, receiver, now=0)
    runs = [failed(instance).run_id for _ in range(3)]
    tick(instance, receiver, now=86_400)
    assert receiver.messages == [runs]


@pytest.mark.parametrize("step_seconds", [-400 * 86_400, 400 * 86_400])
def test_steps_of_the_clock_lose_and_repeat_nothing(instance, step_seconds: float):
    receiver = Receiver()
    now = 1_800_000_000.0
    tick(instance, receiver, now=now)
    told = [failed(instance).run_id]
    tick(instance, receiver, now=now)
    for _ in range(2):
        now += step_seconds
        told.append(failed(instance).run_id)
        tick(instance, receiver, now=now)
        now -= step_seconds
        tick(instance, receiver, now=now)
    assert receiver.told == told


def test_runs_that_end_in_another_order_than_they_began_are_all_told(instance):
    receiver = Receiver()
    slow, quick = begun(instance), begun(instance)
    tick(instance, receiver)
    for run in (quick, slow):
        ended(instance, run, "failure")
        tick(instance, receiver)
    assert receiver.told == [quick.run_id, slow.run_id]


def test_tag_that_is_added_to_an_old_failed_run_does_not_tell_it_again(instance):
    receiver = Receiver()
    old = failed(instance)
    tick(instance, receiver)
    new = failed(instance)
    tick(instance, receiver)
    for run in (old, new):
        instance.add_run_tags(run.run_id, {"note": "looked at"})
    tick(instance, receiver)
    assert receiver.told == [new.run_id]


def test_records_are_removed_with_their_runs(instance):
    receiver = Receiver()
    tick(instance, receiver)
    runs = [failed(instance) for _ in range(3)]
    tick(instance, receiver)
    assert len(Records.load(instance).settled) == 3
    for run in runs:
        instance.delete_run(run.run_id)
    tick(instance, receiver)
    assert Records.load(instance) == Records()


def test_run_that_is_deleted_before_its_alarm_holds_nothing_back(instance):
    state = {"down": True}
    receiver = Receiver(is_down=lambda: state["down"])
    tick(instance, receiver)
    gone, stays = failed(instance), failed(instance)
    tick(instance, receiver)
    instance.delete_run(gone.run_id)
    state["down"] = False
    tick(instance, receiver)
    assert receiver.told == [stays.run_id]


def test_run_whose_events_cannot_be_read_is_told_by_job_and_id(instance, monkeypatch: pytest.MonkeyPatch):
    receiver = Receiver()
    tick(instance, receiver)
    runs = [failed(instance).run_id for _ in range(2)]
    monkeypatch.setattr(sensor, "alert_of", lambda *_, **__: 1 / 0)
    tick(instance, receiver)
    assert receiver.messages == [runs]


def test_run_that_cannot_be_decided_about_holds_back_no_other_and_is_reported_later(instance, monkeypatch):
    receiver = Receiver()
    tick(instance, receiver)
    strange, usual = failed(instance), failed(instance)
    decide = sensor.outcome_of

    def decided(instance, run, **arguments):
        return decide(instance, run if run.run_id == usual.run_id else 1, **arguments)

    monkeypatch.setattr(sensor, "outcome_of", decided)
    tick(instance, receiver)
    assert receiver.told == [usual.run_id]
    tick(instance, receiver, now=RETRY_LIMIT_SECONDS)
    assert receiver.told == [usual.run_id, strange.run_id]


def test_alarm_that_no_channel_can_take_waits_until_the_settings_are_right(instance):
    receiver = Receiver()
    tick(instance, receiver)
    run = failed(instance)
    for _ in range(2):
        assert "LUNA_ALERT_URLS 1 must be" in tick(instance, problems=("LUNA_ALERT_URLS 1 must be ...",))
    tick(instance, receiver)
    assert receiver.told == [run.run_id]


def test_channel_that_is_new_is_told_what_fails_from_then_on(instance):
    first, second = Receiver("first"), Receiver("second")
    tick(instance, first)
    failed(instance)
    tick(instance, first)
    tick(instance, first, second)
    assert second.told == []
    run = failed(instance)
    tick(instance, first, second)
    assert second.told == [run.run_id]


def test_alerts_are_off_until_configured_say_so_and_tell_nothing_of_that_time(instance):
    receiver = Receiver()
    tick(instance)
    failed(instance)
    assert "off" in tick(instance)
    tick(instance, receiver)
    run = failed(instance)
    tick(instance, receiver)
    assert receiver.told == [run.run_id]


def test_sensor_reads_its_settings_and_names_the_channel_that_failed(
    environment, instance, webhook: Webhook, monkeypatch
):
    monkeypatch.setenv("LUNA_SMTP_PORT", str(free_port()))

    def evaluated():
        return sensor.run_failed.evaluate_tick(dg.build_sensor_context(instance=instance))

    assert "not reported" in evaluated().skip_message
    run = failed(instance)
    with pytest.raises(Exception, match=r"LUNA_ALERT_MAIL_TO 1: Connection refused; LUNA_ALERT_MAIL_TO 2"):
        evaluated()
    with pytest.raises(Exception, match="LUNA_ALERT_MAIL_TO 1"):
        evaluated()
    assert [post["run_id"] for post in webhook.posts] == [run.run_id]


def test_two_ticks_at_once_send_once(instance, environment):
    with sensor._TICK_LOCK:
        result = sensor.run_failed(dg.build_sensor_context(instance=instance))
    assert "still sending" in result.skip_message


@pytest.mark.parametrize("step_seconds", [-400 * 86_400, 400 * 86_400])
def test_promised_retry_is_not_waited_for_longer_after_a_step_of_the_clock(instance, step_seconds: float):
    receiver = Receiver()
    tick(instance, receiver)
    run = failed(instance, max_retries=None, remote_job_origin=QUEUED)
    tick(instance, receiver)
    assert receiver.told == []
    tick(instance, receiver, now=step_seconds)
    assert receiver.told == [run.run_id]


def test_alarm_outlives_the_process(tmp_path):
    receivers = Receiver("up"), Receiver("down", is_down=lambda: True)
    overrides = {"telemetry": {"enabled": False}}
    for part in range(3):
        with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as instance:
            if part == 1:
                failed(instance)
            receivers[1].is_down = lambda part=part: part < 2
            tick(instance, *receivers)
    assert receivers[0].told == receivers[1].told
    assert len(receivers[0].told) == 1
