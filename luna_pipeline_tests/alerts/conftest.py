"""Fixtures of the alerts' tests: receivers, their settings, and an instance that retries as dagster.yaml says."""

from collections.abc import Iterator

import dagster as dg
import pytest

from luna_pipeline_tests.alerts.receivers import Inbox, Webhook, inbox_running, webhook_running


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with webhook_running() as server:
        yield server


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with inbox_running() as server:
        yield server


@pytest.fixture
def environment(webhook: Webhook, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The old settings of webhook and mail."""
    values = {
        "LUNA_ALERT_URLS": "",
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
def instance() -> Iterator[dg.DagsterInstance]:
    retries = {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False}
    with dg.DagsterInstance.ephemeral(settings={"run_retries": retries}) as instance:
        yield instance
