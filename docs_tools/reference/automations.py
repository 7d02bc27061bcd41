"""The page of Dagster's sensors and schedules."""

from typing import Any

import dagster as dg

from docs_tools.markdown import plain, table
from luna_pipeline.definitions import defs

# What a sensor looks at each time; schedules have their time.
WAKES = {
    "inputs_changed": "names, sizes and times of the files below `LUNA_DATA_DIR`; their content once nothing changed "
    "between two looks",
    "incoming_changed": "names, sizes and times of the files below `LUNA_INCOMING_DIR`",
    "run_failed": "runs of any job that failed",
}


def page() -> str:
    """Return the page."""
    repository: Any = defs.get_repository_def()
    sensors = sorted(repository.sensor_defs, key=lambda it: it.name)
    schedules = sorted(repository.schedule_defs, key=lambda it: it.name)
    lines = [
        "# Automations",
        "",
        "What starts runs without a person: sensors look at something every few seconds, schedules run at a time. "
        "Switch them on and off on Dagster's page under *Automation*, or with `dagster sensor start NAME` and "
        "`dagster schedule start NAME`. Dagster's daemon must run, as with `make ui`.",
        "",
        "Assets have no automation of their own: what the automations below start is named there. Everything else is "
        "started by a person ([assets](assets.md)).",
        "",
        "## Sensors",
        "",
    ]
    header = ("sensor", "what it does", "looks at", "every", "at first", "starts")
    lines += table(header, map(_sensor, sensors))
    lines += ["## Schedules", ""]
    lines += table(("schedule", "what it does", "when", "at first", "starts"), map(_schedule, schedules))
    lines += [
        "Times of schedules are in UTC (cron: minute, hour, day of the month, month, day of the week). A run that "
        "failed for a lasting reason, such as a damaged CT, is not started again until files or settings change. "
        "See [run unattended](../how_to/unattended.md).",
        "",
        "## Jobs",
        "",
        "What is started, by an automation, from the page, or with `dg launch --job NAME`.",
        "",
        *table(
            ("job", "what it does"),
            ((f"`{job.name}`", plain(job.description)) for job in _jobs(repository)),
        ),
    ]
    return "\n".join(lines)


def _jobs(repository: Any) -> list[Any]:
    return sorted((it for it in repository.get_all_jobs() if not it.name.startswith("__")), key=lambda it: it.name)


def _sensor(sensor: Any) -> tuple[str, ...]:
    is_on = "on" if sensor.default_status is dg.DefaultSensorStatus.RUNNING else "off"
    every = f"{sensor.minimum_interval_seconds} s"
    return f"`{sensor.name}`", plain(sensor.description), WAKES[sensor.name], every, is_on, _started(sensor)


def _schedule(schedule: Any) -> tuple[str, ...]:
    is_on = "on" if schedule.default_status is dg.DefaultScheduleStatus.RUNNING else "off"
    return f"`{schedule.name}`", plain(schedule.description), f"`{schedule.cron_schedule}`", is_on, _started(schedule)


def _started(automation: Any) -> str:
    is_schedule = isinstance(automation, dg.ScheduleDefinition)
    names = [automation.job_name] if is_schedule else [it.job_name for it in automation.targets]
    return ", ".join(f"job `{name}`" for name in names) or "no run"
