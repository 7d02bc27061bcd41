"""What an alert contains, and what it must not contain."""

import json

import dagster as dg
import pytest

from luna_pipeline.alerts import content
from luna_pipeline.alerts.channels import Channels
from luna_pipeline.alerts.content import MAX_LINES, Alert, Message, alert_of, rule_of
from luna_pipeline.alerts.sensor import run_failed, tick
from luna_pipeline.runs.nested import PARENT_TAG
from luna_pipeline_tests.alerts.failed_runs import failed
from luna_pipeline_tests.alerts.receivers import Inbox, Webhook

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.1"


@dg.op
def cut_doe() -> None:
    reasons = {
        UID: "The voxels must fill 10 bytes, got 5 (/data/DOE^JOHN/ct.raw). Copy them again.",
        "DOE_JOHN": "[Errno 5] Input/output error: '/data/DOE_JOHN.nii.gz'",
    }
    message = "Every series must be cut, got 2 failures (DOE^JOHN). Mend them."
    raise dg.Failure(message, metadata={"failed": dg.MetadataValue.json(reasons)}, allow_retries=False)


@dg.job
def cut_something() -> None:
    cut_doe()


def _told(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    """Fail a run between two ticks."""
    tick(instance, Channels.from_environment(), now=0)
    result = cut_something.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
    assert isinstance(run_failed(dg.build_sensor_context(instance=instance)), dg.SkipReason)
    return result.dagster_run


def test_both_channels_tell_job_run_steps_and_series(environment, instance, webhook: Webhook, inbox: Inbox):
    _told(instance)
    (post,) = webhook.posts
    assert post["job"] == "cut_something"
    assert post["run_url"] == f"http://pipeline.example.org/runs/{post['run_id']}"
    assert post["steps"] == {"cut_something.cut_doe": "Every series must be cut"}
    assert post["series"] == {UID: "The voxels must fill 10 bytes", "unnamed 2": "see the run's page"}
    assert [run["run_id"] for run in post["runs"]] == [post["run_id"]]
    assert sorted(mail["To"] for mail in inbox.mails) == ["day@example.org", "night@example.org"]
    for mail in inbox.mails:
        assert "luna@example.org" in mail["From"]
        assert mail.get_content_type() == "text/plain"
        for part in (post["run_id"], post["run_url"], UID, "Every series must be cut"):
            assert part in mail.get_payload(decode=True).decode()


def test_no_value_path_or_name_leaves_the_machine(environment, instance, webhook: Webhook, inbox: Inbox):
    _told(instance)
    mails = [mail.get_payload(decode=True).decode() for mail in inbox.mails]
    for told in (json.dumps(webhook.posts), *mails, *(mail.as_string() for mail in inbox.mails)):
        assert "DOE" not in told
        assert "/data" not in told
    assert mails


def test_outer_run_tells_what_failed_inside_it(environment, instance, webhook: Webhook):
    tick(instance, Channels.from_environment(), now=0)
    outer = cut_something.execute_in_process(instance=instance, raise_on_error=False)
    cut_something.execute_in_process(instance=instance, raise_on_error=False, tags={PARENT_TAG: outer.run_id})
    run_failed(dg.build_sensor_context(instance=instance))
    (post,) = webhook.posts
    assert post["run_id"] == outer.run_id
    assert UID in post["series"]


def test_nested_run_that_was_executed_again_is_not_part_of_the_outer_run(instance, monkeypatch: pytest.MonkeyPatch):
    outer = failed(instance)
    cut_something.execute_in_process(instance=instance, raise_on_error=False, tags={PARENT_TAG: outer.run_id})
    assert alert_of(instance, outer).steps
    monkeypatch.setattr(content, "outermost_run_id", lambda _: None)
    assert not alert_of(instance, outer).steps


def test_names_in_every_script_arrive_as_they_are(environment, instance, webhook: Webhook, inbox: Inbox):
    message = Message([Alert("Größe-结节", "0" * 36, "", {"Größe-结节.schneiden": "Länge must be ≥ 1 µm 肺"}, {})])
    for channel in Channels.from_environment().usable:
        channel.send(message)
    told = [webhook.posts[0]["text"], *(mail.get_payload(decode=True).decode("utf-8") for mail in inbox.mails)]
    for text in told:
        assert "Step Größe-结节.schneiden: Länge must be ≥ 1 µm 肺" in text
    assert len(told) == 3


def test_several_runs_are_one_message_that_names_all_first():
    alerts = [Alert("cut", f"{number:036d}", "", {"cut.cut": "The rule"}, {}) for number in range(50)]
    message = Message(alerts)
    assert message.title == "luna_pipeline: 50 runs failed"
    head = message.text.split("\n\n")[0]
    assert all(alert.run_id in head for alert in alerts)
    assert message.members["run_id"] == alerts[0].run_id
    assert [run["run_id"] for run in message.members["runs"]] == [alert.run_id for alert in alerts]


def test_text_of_a_thousand_failed_series_stays_short_and_says_so():
    text = Alert("cut", "0" * 36, "", {}, {f"1.{number}": "The rule" for number in range(1000)}).text
    assert text.count("\n") < MAX_LINES + 5
    assert text.endswith(f"... and {1000 - MAX_LINES} more")


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ("ValueError: Fold must be one per series, got [1, 2] (series 1.2). Do x.", "Fold must be one per series"),
        ("OSError: [Errno 28] No space left on device: '/data/DOE'", "see the run's page"),
        ("/data/DOE must be there, got nothing. Do x.", "see the run's page"),
        ("", "see the run's page"),
    ],
)
def test_rule_is_told_and_no_value(message: str, rule: str):
    assert rule_of(message) == rule
