"""Channels: which addresses they read, that a failure has a reason and no secret, and that nothing waits for long."""

import io
import logging
import time
from collections.abc import Callable, Iterator

import pytest

from luna_pipeline.alerts import channels as channels_module
from luna_pipeline.alerts.channels import ChannelError, Channels
from luna_pipeline.alerts.content import Alert, Message
from luna_pipeline_tests.alerts.receivers import Inbox, Webhook, webhook_running
from luna_pipeline_tests.processes import free_port

MESSAGE = Message([Alert("cut", "0" * 36, "", {}, {})])
SECRET = "TIiajkdnlazkcOXrIdevi7FQ"


@pytest.fixture
def printed(capfd) -> Iterator[Callable[[], str]]:
    """What the root logger and the process print; caplog would also show loggers that do not propagate."""
    handler = logging.StreamHandler(output := io.StringIO())
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield lambda: "".join([output.getvalue(), *capfd.readouterr()])
    logger.removeHandler(handler)
    logger.setLevel(level)


def _sent(environment: dict[str, str]) -> list[str]:
    """Send to all channels; return the failures."""
    failures = []
    for channel in Channels.from_environment(environment).usable:
        try:
            channel.send(MESSAGE)
        except ChannelError as error:
            failures.append(f"{channel.name}: {error}")
    return failures


def test_one_setting_names_chat_mail_and_json_receivers(webhook: Webhook, inbox: Inbox):
    urls = f"""
      {webhook.address.replace("http", "json")}, slack://T1JJ3T3L2/A1BRTD4JD/{SECRET}
      https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JE/{SECRET},workflows://host:443/workflow/signature,
      mailto://127.0.0.1:{inbox.port}/?from=luna@example.org&to=night@example.org,day@example.org
    """
    found = Channels.from_environment({"LUNA_ALERT_URLS": urls})
    assert found.problems == []
    names = [channel.name for channel in found.usable]
    assert names == [f"LUNA_ALERT_URLS {number}" for number in (1, 2, 3, 4, 5, 5)]
    assert found.usable[3].max_runs < found.usable[1].max_runs
    for number in (0, 4, 5):
        found.usable[number].send(MESSAGE)
    assert MESSAGE.text in webhook.posts[0]["message"]
    assert sorted(mail["To"] for mail in inbox.mails) == ["day@example.org", "night@example.org"]


def test_each_receiver_of_one_address_succeeds_or_fails_on_its_own(environment, inbox: Inbox):
    inbox.refused = {"night@example.org"}
    assert [failure.partition(":")[0] for failure in _sent(environment)] == ["LUNA_ALERT_MAIL_TO 1"]
    assert [mail["To"] for mail in inbox.mails] == ["day@example.org"]


def test_address_that_is_given_twice_is_one_channel(webhook: Webhook):
    address = webhook.address.replace("http", "json")
    found = Channels.from_environment({"LUNA_ALERT_URLS": f"{address},{address}"})
    assert len(found.usable) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LUNA_ALERT_URLS", f"slac://T1JJ3T3L2/A1BRTD4JD/{SECRET}"),
        ("LUNA_ALERT_URLS", f"slack://T1JJ3T3L2/{SECRET}"),
        ("LUNA_ALERT_URLS", SECRET),
        ("LUNA_ALERT_URLS", f"mailto://luna:{SECRET}@host/?to=nothing"),
        ("LUNA_ALERT_WEBHOOK", f"file:///{SECRET}"),
        ("LUNA_ALERT_WEBHOOK", f"https://chat.example/{SECRET} and more"),
        ("LUNA_ALERT_WEBHOOK", f"https://chat.example/{SECRET}ä"),
        ("LUNA_ALERT_MAIL_TO", f"{SECRET}@@"),
    ],
)
def test_address_that_is_none_is_named_by_its_setting_without_its_content(name: str, value: str, webhook, printed):
    good = webhook.address.replace("http", "json")
    values = {"LUNA_ALERT_URLS": good} | {name: f"{value}\n{good}" if name == "LUNA_ALERT_URLS" else value}
    found = Channels.from_environment(values)
    (problem,) = found.problems
    assert problem.startswith(f"{name} ")
    assert "must be an" in problem
    assert len(found.usable) == 1
    assert SECRET not in problem + printed()


def test_port_that_is_no_number_is_a_problem_of_the_mail_settings(environment):
    found = Channels.from_environment(environment | {"LUNA_SMTP_PORT": "smtp"})
    assert "LUNA_SMTP_PORT" in found.problems[0]
    assert [channel.name for channel in found.usable] == ["LUNA_ALERT_WEBHOOK"]


@pytest.mark.parametrize(
    ("status", "reason"), [(503, "503"), (404, "404"), (302, "302"), (0, "closed|Disconnected|not taken")]
)
def test_receiver_that_does_not_take_a_message_is_a_failure_with_its_reason(status: int, reason: str, printed):
    with webhook_running(status) as server:
        for values in (
            {"LUNA_ALERT_WEBHOOK": f"{server.address}/{SECRET}"},
            {"LUNA_ALERT_URLS": f"{server.address.replace('http', 'json')}/{SECRET}"},
        ):
            (channel,) = Channels.from_environment(values).usable
            with pytest.raises(ChannelError, match=reason) as raised:
                channel.send(MESSAGE)
            assert SECRET not in str(raised.value)
            assert raised.value.__cause__ is None
    assert SECRET not in printed()


def test_receiver_that_is_away_is_named_with_the_reason_and_no_secret(printed):
    closed = free_port()
    values = {
        "LUNA_ALERT_WEBHOOK": f"http://127.0.0.1:{closed}/{SECRET}",
        "LUNA_ALERT_URLS": f"json://127.0.0.1:{closed}/{SECRET}",
        "LUNA_ALERT_MAIL_TO": "day@example.org",
        "LUNA_SMTP_PORT": str(closed),
    }
    failures = _sent(values)
    assert failures == [
        "LUNA_ALERT_WEBHOOK: Connection refused",
        "LUNA_ALERT_MAIL_TO 1: Connection refused",
        "LUNA_ALERT_URLS 1: Connection refused",
    ]
    assert SECRET not in f"{failures}{printed()}"


def test_receiver_that_is_silent_is_given_up_after_the_limit_and_not_asked_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(channels_module, "TIMEOUT_SECONDS", 0.2)
    with webhook_running(2) as server:
        address = server.address.replace("http", "json")
        values = {"LUNA_ALERT_WEBHOOK": server.address, "LUNA_ALERT_URLS": f"{address}?retry=5&wait=30&rto=60"}
        before = time.monotonic()
        failures = _sent(values)
        assert time.monotonic() - before < 1.5
    assert failures == ["LUNA_ALERT_WEBHOOK: timed out", "LUNA_ALERT_URLS 1: timed out"]


def test_password_is_not_sent_in_the_clear(environment, inbox: Inbox):
    values = environment | {"LUNA_SMTP_USER": "luna", "LUNA_SMTP_PASSWORD": SECRET, "LUNA_ALERT_WEBHOOK": ""}
    failures = _sent(values)
    assert len(failures) == 2
    assert all("STARTTLS" in failure and SECRET not in failure for failure in failures)
    assert inbox.mails == []


def test_host_of_the_mail_settings_is_used_whatever_the_domain_of_the_user():
    values = {
        "LUNA_ALERT_MAIL_TO": "day@example.org",
        "LUNA_SMTP_USER": "luna@gmail.com",
        "LUNA_SMTP_PASSWORD": "a:b/c@d%e?f&g#",
        "LUNA_SMTP_HOST": "127.0.0.1",
        "LUNA_SMTP_PORT": "2525",
    }
    ((name, address),) = channels_module._addresses(values)
    (service,) = channels_module._each_receiver(name, address)
    assert (service.smtp_host, service.port, service.secure_mode) == ("127.0.0.1", 2525, "starttls")
    assert (service.user, service.password) == ("luna@gmail.com", values["LUNA_SMTP_PASSWORD"])


@pytest.mark.parametrize(
    ("receiver", "host", "target"),
    [
        ("Night Shift <night@example.org>", "mail_server", ("Night Shift", "night@example.org")),
        ("root", "localhost", (False, "root@localhost")),
        ("day@example.org", "::1", (False, "day@example.org")),
    ],
)
def test_receivers_and_hosts_of_the_mail_settings_may_have_every_form(receiver: str, host: str, target: tuple):
    ((name, address),) = channels_module._addresses({"LUNA_ALERT_MAIL_TO": receiver, "LUNA_SMTP_HOST": host})
    (service,) = channels_module._each_receiver(name, address)
    assert (service.smtp_host, service.port, service.targets) == (host, 25, [target])
    assert service.from_addr[1] == target[1]
