"""Alerts: failed runs are reported by webhook and mail once these are configured.

An alert names the job, the run, steps, broken rules and series. Values, paths and names are only on the run's page,
because a path below the data root may contain a patient's name.
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

from luna_pipeline.runs.nested import PARENT_TAG, root_message

TIMEOUT_SECONDS = 10.0
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


@dataclass(frozen=True)
class Alert:
    """Content of the alert of a failed run.

    Attributes:
        job: Name of the job.
        run_id: Id of the run.
        run_url: Page of the run; empty if ``LUNA_DAGSTER_URL`` is not set.
        steps: Broken rule by failed step.
        series: Broken rule by failed series; a series whose name is no DICOM uid is called unnamed.
    """

    job: str
    run_id: str
    run_url: str
    steps: dict[str, str]
    series: dict[str, str]

    @property
    def title(self) -> str:
        """The alert in one line."""
        return f"luna_pipeline: run {self.run_id[:8]} of `{self.job}` failed"

    @property
    def text(self) -> str:
        """The whole alert as text."""
        lines = [self.title, self.run_url]
        lines += [f"Step {step}: {rule}" for step, rule in self.steps.items()]
        lines += [f"Series {uid}: {rule}" for uid, rule in self.series.items()]
        return "\n".join(line for line in lines if line)


@dataclass(frozen=True)
class AlertSettings:
    """Destinations of alerts, from the environment; none by default.

    Attributes:
        webhook: ``LUNA_ALERT_WEBHOOK``, an http(s) address that accepts JSON.
        mail_to: ``LUNA_ALERT_MAIL_TO``, addresses separated by commas.
        mail_from: ``LUNA_ALERT_MAIL_FROM``; by default the first of ``mail_to``.
        smtp_host: ``LUNA_SMTP_HOST``, by default this machine.
        smtp_port: ``LUNA_SMTP_PORT``, by default 25, with a user 587.
        smtp_user: ``LUNA_SMTP_USER``; if it is set, STARTTLS is used.
        smtp_password: ``LUNA_SMTP_PASSWORD``.
        dagster_url: ``LUNA_DAGSTER_URL``, the address of Dagster's page for a browser.
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
        """Read the variables from ``environment``, by default the process's own."""
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
        """The configured channels: name to a function that sends an alert."""
        posts: dict[str, Callable[[Alert], None]] = {"webhook": self._post} if self.webhook else {}
        return {**posts, "mail": self._mail} if self.mail_to else posts

    def _post(self, alert: Alert) -> None:
        if not self.webhook.startswith(("http://", "https://")):
            msg = "LUNA_ALERT_WEBHOOK must be an http or https address, got another. Set it again."
            raise ValueError(msg)
        # Chat programs show `text`; the other members are for programs.
        content = json.dumps({"text": alert.text, **asdict(alert)}).encode()
        request = urllib.request.Request(self.webhook, content, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()

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
    """Send an alert on all configured channels, even if one fails.

    Raises:
        RuntimeError: Names the failed channels and the reasons, after all were tried.
    """
    failures = []
    for name, channel in settings.channels.items():
        try:
            channel(alert)
        except (OSError, ValueError, smtplib.SMTPException) as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    if failures:
        msg = f"An alert must reach every channel, got {'; '.join(failures)} (run {alert.run_id}). Fix the settings."
        raise RuntimeError(msg)


def alert_of(instance: dg.DagsterInstance, run: dg.DagsterRun, *, dagster_url: str = "") -> Alert:
    """Collect the failures of a run and of its nested runs."""
    steps: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for each in [run, *instance.get_runs(dg.RunsFilter(tags={PARENT_TAG: run.run_id}))]:
        for record in instance.get_records_for_run(each.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records:
            event = record.event_log_entry.get_dagster_event()
            steps[f"{each.job_name}.{event.step_key}"] = rule_of(root_message(event))
            reasons |= _failed_series(event)
    url = f"{dagster_url}/runs/{run.run_id}" if dagster_url else ""
    return Alert(run.job_name, run.run_id, url, steps, _named(reasons))


def rule_of(message: str) -> str:
    """Return the rule of an error message of the form ``<rule>, got <value> ...``, without value, file and name.

    A message of another form may contain anything and is replaced by a reference to the run's page.
    """
    rule, found, _ = " ".join(message.split()).partition(", got ")
    # The class of the error precedes a colon. The project's rules contain no path separators.
    rule = rule.rpartition(": ")[2]
    return rule if found and not re.search(r"[/\\]", rule) else "see the run's page"


def _named(reasons: Mapping[str, str]) -> dict[str, str]:
    """Return the rule by series; only DICOM uids are kept as names, other file names may contain a patient's name."""
    names = [uid if _UID.fullmatch(uid) else f"unnamed {number}" for number, uid in enumerate(reasons, start=1)]
    return {name: rule_of(reason) for name, reason in zip(names, reasons.values(), strict=True)}


def _failed_series(event: dg.DagsterEvent) -> dict[str, str]:
    failure = event.step_failure_data.user_failure_data
    entry = failure.metadata.get("failed") if failure is not None else None
    return dict(entry.data) if isinstance(entry, dg.JsonMetadataValue) and isinstance(entry.data, dict) else {}


@dg.run_failure_sensor(
    # Runs of the command line belong to no code location.
    monitor_all_code_locations=True,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports failed runs by webhook and mail; off until LUNA_ALERT_WEBHOOK or LUNA_ALERT_MAIL_TO is set.",
)
def run_failed(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    """Send one alert per failed run, including its nested runs; runs that will be retried are skipped."""
    run, settings = context.dagster_run, AlertSettings.from_environment()
    if not settings.channels:
        return dg.SkipReason("Alerts are off: neither LUNA_ALERT_WEBHOOK nor LUNA_ALERT_MAIL_TO is set")
    if PARENT_TAG in run.tags:
        return dg.SkipReason(f"Run {run.run_id} is reported with its outermost run")
    if run.tags.get("dagster/will_retry") == "true":
        return dg.SkipReason(f"Run {run.run_id} will be retried")
    send(alert_of(context.instance, run, dagster_url=settings.dagster_url), settings)
    return None
