"""Content of an alert: what is reported of a failed run.

An alert names the job, the run, steps, broken rules and series. Values, paths and names are only on the run's page,
because a path below the data root may contain a patient's name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from luna_pipeline.runs.nested import PARENT_TAG, outermost_run_id, root_message, run_page

MAX_DETAILED = 20
"""Alerts of one message that list steps and series; the text of further ones is their title."""
MAX_LINES = 50
"""Failed steps and series that the text of an alert lists."""
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
        note: What became of its retry; empty if nothing needs to be said.
    """

    job: str
    run_id: str
    run_url: str
    steps: dict[str, str]
    series: dict[str, str]
    note: str = ""

    @property
    def title(self) -> str:
        """The alert in one line."""
        return f"luna_pipeline: run {self.run_id[:8]} of `{self.job}` failed"

    @property
    def text(self) -> str:
        """The whole alert as text."""
        lines = [self.title, self.run_url or f"Run {self.run_id}", self.note]
        failures = [f"Step {step}: {rule}" for step, rule in self.steps.items()]
        failures += [f"Series {uid}: {rule}" for uid, rule in self.series.items()]
        lines += failures[:MAX_LINES]
        if len(failures) > MAX_LINES:
            lines.append(f"... and {len(failures) - MAX_LINES} more")
        return "\n".join(line for line in lines if line)


@dataclass(frozen=True)
class Message:
    """One message that reports one or more failed runs."""

    alerts: Sequence[Alert]

    @property
    def title(self) -> str:
        """The message in one line."""
        number = len(self.alerts)
        return self.alerts[0].title if number == 1 else f"luna_pipeline: {number} runs failed"

    @property
    def text(self) -> str:
        """The message as text: all runs by job and id first, so that a receiver that cuts it off drops details only."""
        if len(self.alerts) == 1:
            return self.alerts[0].text
        lines = [f"{self.title}:", *(f"`{alert.job}` {alert.run_id}" for alert in self.alerts)]
        return "\n\n".join(["\n".join(lines), *(alert.text for alert in self.alerts[:MAX_DETAILED])])

    @property
    def members(self) -> dict[str, Any]:
        """The message for programs: ``text``, the members of the first alert, and ``runs`` with all alerts."""
        return {"text": self.text, **asdict(self.alerts[0]), "runs": [asdict(alert) for alert in self.alerts]}


def alert_of(instance: dg.DagsterInstance, run: dg.DagsterRun, *, dagster_url: str = "", note: str = "") -> Alert:
    """Collect the failures of a run and of its nested runs."""
    steps: dict[str, str] = {}
    reasons: dict[str, str] = {}
    nested = instance.get_runs(dg.RunsFilter(tags={PARENT_TAG: run.run_id}))
    for each in [run, *(one for one in nested if outermost_run_id(one) == run.run_id)]:
        for record in instance.get_records_for_run(each.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records:
            event = record.event_log_entry.get_dagster_event()
            steps[f"{each.job_name}.{event.step_key}"] = rule_of(root_message(event))
            reasons |= _failed_series(event)
    return Alert(run.job_name, run.run_id, _url(run, dagster_url), steps, _named(reasons), note)


def short_alert_of(run: dg.DagsterRun, *, dagster_url: str = "", note: str = "") -> Alert:
    """Return the alert of a run without its failures, which are not read."""
    return Alert(run.job_name, run.run_id, _url(run, dagster_url), {}, {}, note)


def _url(run: dg.DagsterRun, dagster_url: str) -> str:
    return run_page(dagster_url, run.run_id) if dagster_url else ""


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
