"""For people who are not looking: a run that failed is told by webhook and mail, once these are configured.

An alert names job, run, steps, rules that were broken and series. Values, paths and names stay on the run's page: a
path below the data root may hold a patient's name.
"""

import json
import os
import re
import smtplib
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from email.message import EmailMessage

import dagster as dg

from luna_pipeline.runs.nested import PARENT_TAG

TIMEOUT_SECONDS = 10.0
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


@dataclass(frozen=True)
class Alert:
    """What is told about a failed run.

    Attributes:
        job: Its job.
        run_id: Its id.
        run_url: Its page; empty where ``LUNA_DAGSTER_URL`` is not set.
        steps: The rule that was broken, by failed step.
        series: The rule that was broken, by failed series; a series whose name is no DICOM uid is called unnamed.
    """

    job: str
    run_id: str
    run_url: str
    steps: dict[str, str]
    series: dict[str, str]

    @property
    def title(self) -> str:
        """One line."""
        return f"luna_pipeline: run {self.run_id[:8]} of `{self.job}` failed"

    @property
    def text(self) -> str:
        """The whole, for people."""
        lines = [self.title, self.run_url]
        lines += [f"Step {step}: {rule}" for step, rule in self.steps.items()]
        lines += [f"Series {uid}: {rule}" for uid, rule in self.series.items()]
        return "\n".join(line for line in lines if line)


@dataclass(frozen=True)
class AlertSettings:
    """Where alerts go, as the environment says; nowhere by default.

    Attributes:
        webhook: ``LUNA_ALERT_WEBHOOK``, an http(s) address that takes JSON.
        mail_to: ``LUNA_ALERT_MAIL_TO``, addresses with commas between.
        mail_from: ``LUNA_ALERT_MAIL_FROM``; by default the first of ``mail_to``.
        smtp_host: ``LUNA_SMTP_HOST``, by default this machine.
        smtp_port: ``LUNA_SMTP_PORT``, by default 25, with a user 587.
        smtp_user: ``LUNA_SMTP_USER``; where it is set STARTTLS is used.
        smtp_password: ``LUNA_SMTP_PASSWORD``.
        dagster_url: ``LUNA_DAGSTER_URL``, where a browser finds Dagster's page.
    """

    webhook: str
    mail_to: str
    mail_from: str
    smtp_host: str
    smtp_port: int
    smtp_user: str
    smtp_password: str
    dagster_url: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "AlertSettings":
        """Read the variables when an alert is due."""
        values = os.environ if environment is None else environment
        user, mail_to = values.get("LUNA_SMTP_USER", ""), values.get("LUNA_ALERT_MAIL_TO", "")
        return cls(
            webhook=values.get("LUNA_ALERT_WEBHOOK", ""),
            mail_to=mail_to,
            mail_from=values.get("LUNA_ALERT_MAIL_FROM") or mail_to.split(",")[0].strip(),
            smtp_host=values.get("LUNA_SMTP_HOST") or "127.0.0.1",
            smtp_port=int(values.get("LUNA_SMTP_PORT") or (587 if user else 25)),
            smtp_user=user,
            smtp_password=values.get("LUNA_SMTP_PASSWORD", ""),
            dagster_url=values.get("LUNA_DAGSTER_URL", "").rstrip("/"),
        )

    @property
    def channels(self) -> dict[str, Callable[[Alert], None]]:
        """The ways that are configured, by name."""
        ways: dict[str, tuple[str, Callable[[Alert], None]]] = {
            "webhook": (self.webhook, self._post),
            "mail": (self.mail_to, self._mail),
        }
        return {name: send for name, (is_set, send) in ways.items() if is_set}

    def _post(self, alert: Alert) -> None:
        if not self.webhook.startswith(("http://", "https://")):
            msg = "LUNA_ALERT_WEBHOOK must be an http or https address, got another. Set it again."
            raise ValueError(msg)
        # `text` is what chat programs show; the other members are for programs.
        content = json.dumps({"text": alert.text, **asdict(alert)}).encode()
        request = urllib.request.Request(self.webhook, content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            pass

    def _mail(self, alert: Alert) -> None:
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = alert.title, self.mail_from, self.mail_to
        message.set_content(alert.text)
        with smtplib.SMTP(self.smtp_host, self.smtp_port, timeout=TIMEOUT_SECONDS) as server:
            if self.smtp_user:
                server.starttls(context=ssl.create_default_context())
                server.login(self.smtp_user, self.smtp_password)
            server.send_message(message)


def send(alert: Alert, settings: AlertSettings) -> None:
    """Send an alert on every channel that is configured, also when another one fails.

    Raises:
        RuntimeError: Which channels failed and why, after all were tried.
    """
    failures = []
    for name, channel in settings.channels.items():
        try:
            channel(alert)
        except (OSError, ValueError, smtplib.SMTPException) as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    if failures:
        msg = f"An alert must reach every channel, got {'; '.join(failures)} (run {alert.run_id}). Mend the settings."
        raise RuntimeError(msg)


def alert_of(instance: dg.DagsterInstance, run: dg.DagsterRun, *, dagster_url: str = "") -> Alert:
    """Collect what failed in a run and in the runs that it ran in turn."""
    inner = instance.get_runs(dg.RunsFilter(tags={PARENT_TAG: run.run_id}))
    steps: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for each in [run, *inner]:
        for event in _step_failures(instance, each):
            steps[f"{each.job_name}.{event.step_key}"] = rule_of(_root_message(event))
            reasons |= _failed_series(event)
    url = f"{dagster_url}/runs/{run.run_id}" if dagster_url else ""
    return Alert(run.job_name, run.run_id, url, steps, _named(reasons))


def rule_of(message: str) -> str:
    """Return the rule of an error ``<rule>, got <value> ...``; what has no such form may hold anything and is not told.

    The rule is the project's own words; value, file and name come after it.
    """
    rule, found, _ = " ".join(message.split()).partition(", got ")
    # What stands before a colon is the class of the error; a rule has none of the marks of a path.
    rule = rule.rpartition(": ")[2]
    return rule if found and not re.search(r"[/\\]", rule) else "see the run's page"


def _named(reasons: Mapping[str, str]) -> dict[str, str]:
    """Return the rule by series; a file that is not named by a DICOM uid may be named after a patient."""
    names = [uid if _UID.fullmatch(uid) else f"unnamed {number}" for number, uid in enumerate(reasons, start=1)]
    return {name: rule_of(reason) for name, reason in zip(names, reasons.values(), strict=True)}


def _failed_series(event: dg.DagsterEvent) -> dict[str, str]:
    failure = event.step_failure_data.user_failure_data
    entry = failure.metadata.get("failed") if failure is not None else None
    return dict(entry.data) if isinstance(entry, dg.JsonMetadataValue) and isinstance(entry.data, dict) else {}


def _step_failures(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterEvent]:
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    return [record.event_log_entry.dagster_event for record in records if record.event_log_entry.dagster_event]


def _root_message(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message if error else ""


@dg.run_failure_sensor(
    # Runs of the command line as well, which belong to no code location.
    monitor_all_code_locations=True,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of failed runs by webhook and mail; does nothing until LUNA_ALERT_WEBHOOK or "
    "LUNA_ALERT_MAIL_TO is set.",
)
def run_failed(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    """Send one alert a failed run; a run inside another is told with it, one that is tried again is not told."""
    run, settings = context.dagster_run, AlertSettings.from_environment()
    if not settings.channels:
        return dg.SkipReason("Alerts are off: neither LUNA_ALERT_WEBHOOK nor LUNA_ALERT_MAIL_TO is set")
    if PARENT_TAG in run.tags:
        return dg.SkipReason(f"Run {run.run_id} is told with the run that ran it")
    if run.tags.get("dagster/will_retry") == "true":
        return dg.SkipReason(f"Run {run.run_id} is tried again")
    send(alert_of(context.instance, run, dagster_url=settings.dagster_url), settings)
    return None
