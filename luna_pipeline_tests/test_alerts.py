"""Alerts: their content, what they must not contain, and independent channels."""

import json
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest
from aiosmtpd.controller import Controller

from luna_pipeline.alerts import Alert, AlertSettings, rule_of, run_failed, send
from luna_pipeline.runs.nested import PARENT_TAG
from luna_pipeline_tests.processes import free_port

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.1"


class Webhook:
    """A real HTTP server that records what is posted to it."""

    def __init__(self, status: int = 200, *, host: str = "127.0.0.1") -> None:
        self.posts: list[dict] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.posts.append(json.loads(content))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer((host, 0), Handler)
        self.address = f"http://{host}:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Inbox:
    """A real SMTP server that records what is sent to it."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.port = free_port()
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    async def handle_DATA(self, _server, _session, envelope) -> str:
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    yield server
    server.close()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    server = Inbox()
    yield server
    server.controller.stop()


@pytest.fixture
def environment(webhook: Webhook, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Both channels, configured."""
    values = {
        "LUNA_ALERT_WEBHOOK": webhook.address,
        "LUNA_ALERT_MAIL_TO": "night@example.org, day@example.org",
        "LUNA_ALERT_MAIL_FROM": "luna@example.org",
        "LUNA_SMTP_HOST": "127.0.0.1",
        "LUNA_SMTP_PORT": str(inbox.port),
        "LUNA_DAGSTER_URL": "http://pipeline.example.org/",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def instance(tmp_path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}}) as instance:
        yield instance


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


def _tick(instance: dg.DagsterInstance, **tags: str) -> dg.SensorResult | dg.SkipReason | None:
    """Fail a run and evaluate the sensor for it."""
    result = cut_something.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
    return _look_at(instance, result)


def _look_at(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult):
    context = dg.build_run_status_sensor_context(
        "run_failed", result.get_run_failure_event(), instance, result.dagster_run
    )
    return run_failed(context.for_run_failure())


def test_both_channels_tell_job_run_steps_and_series(environment, instance, webhook: Webhook, inbox: Inbox):
    assert _tick(instance) is None
    (post,) = webhook.posts
    assert post["job"] == "cut_something"
    assert post["run_url"] == f"http://pipeline.example.org/runs/{post['run_id']}"
    assert post["steps"] == {"cut_something.cut_doe": "Every series must be cut"}
    assert post["series"] == {UID: "The voxels must fill 10 bytes", "unnamed 2": "see the run's page"}
    (mail,) = inbox.mails
    assert mail["To"] == "night@example.org, day@example.org"
    assert mail["From"] == "luna@example.org"
    for part in (post["run_id"], post["run_url"], UID, "Every series must be cut"):
        assert part in mail.get_payload().replace("=\n", "")


def test_no_value_path_or_name_leaves_the_machine(environment, instance, webhook: Webhook, inbox: Inbox):
    _tick(instance)
    for told in (json.dumps(webhook.posts), inbox.mails[0].as_string()):
        assert "DOE" not in told
        assert "/data" not in told


def test_alerts_are_off_until_configured_and_say_so(instance, monkeypatch: pytest.MonkeyPatch):
    for name in ("LUNA_ALERT_WEBHOOK", "LUNA_ALERT_MAIL_TO"):
        monkeypatch.delenv(name, raising=False)
    skipped = _tick(instance)
    assert isinstance(skipped, dg.SkipReason)
    assert "off" in skipped.skip_message


def test_run_inside_another_and_one_that_is_tried_again_are_not_told(environment, instance, webhook, inbox):
    assert isinstance(_tick(instance, **{PARENT_TAG: "outer"}), dg.SkipReason)
    assert isinstance(_tick(instance, **{"dagster/will_retry": "true"}), dg.SkipReason)
    assert webhook.posts == inbox.mails == []


def test_outer_run_tells_what_failed_inside_it(environment, instance, webhook: Webhook):
    outer = cut_something.execute_in_process(instance=instance, raise_on_error=False)
    cut_something.execute_in_process(instance=instance, raise_on_error=False, tags={PARENT_TAG: outer.run_id})
    _look_at(instance, outer)
    (post,) = webhook.posts
    assert post["run_id"] == outer.run_id
    assert UID in post["series"]


@pytest.mark.parametrize("broken", ["webhook", "mail"])
def test_channel_that_fails_is_named_and_the_other_is_still_used(environment, webhook, inbox, broken: str):
    closed = str(free_port())
    changes = {"webhook": {"LUNA_ALERT_WEBHOOK": f"http://127.0.0.1:{closed}"}, "mail": {"LUNA_SMTP_PORT": closed}}
    settings = AlertSettings.from_environment(environment | changes[broken])
    with pytest.raises(RuntimeError, match=rf"every channel, got {broken}: .*refused"):
        send(Alert("cut", "run", "", {}, {}), settings)
    assert len(webhook.posts) + len(inbox.mails) == 1


def test_channel_that_fails_fails_the_tick_and_nothing_is_sent_twice(
    environment, instance, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LUNA_SMTP_PORT", str(free_port()))

    def tick(cursor: str | None):
        return run_failed.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor))

    cursor = tick(None).cursor
    cut_something.execute_in_process(instance=instance, raise_on_error=False)
    result = tick(cursor)
    (reaction,) = result.dagster_run_reactions
    assert "mail: ConnectionRefusedError" in reaction.error.message
    assert not tick(result.cursor).dagster_run_reactions
    assert len(webhook.posts) == 1


def test_webhook_that_refuses_is_a_failure(environment, inbox):
    refusing = Webhook(status=500)
    try:
        settings = AlertSettings.from_environment(environment | {"LUNA_ALERT_WEBHOOK": refusing.address})
        with pytest.raises(RuntimeError, match="webhook: HTTPError"):
            send(Alert("cut", "run", "", {}, {}), settings)
    finally:
        refusing.close()
    assert len(inbox.mails) == 1


def test_password_is_not_sent_in_the_clear(environment, inbox):
    settings = AlertSettings.from_environment(environment | {"LUNA_SMTP_USER": "luna", "LUNA_SMTP_PASSWORD": "secret"})
    with pytest.raises(RuntimeError, match=r"mail: .*STARTTLS"):
        send(Alert("cut", "run", "", {}, {}), settings)
    assert inbox.mails == []


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
