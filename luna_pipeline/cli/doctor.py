"""The command that says what is set up and what is missing."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.results import json_option, print_json

if TYPE_CHECKING:
    from luna_pipeline.launchers.doctor.findings import Finding

_COLORS = {"ok": "green", "note": "yellow", "problem": "red"}


@command("doctor", "luna doctor", "luna doctor --json")
@json_option
def doctor_command(*, is_json: bool) -> None:
    """Report what is set up and what is missing, with the command that fixes each problem.

    It examines Python, packages, GPU, memory, disks, folders, environment variables, MLflow, Dagster and Ray. Only what
    the variables name is contacted, and nothing is changed. Exit code 1 if there is a problem.
    """
    from luna_pipeline.launchers.doctor.examination import probes
    from luna_pipeline.launchers.doctor.findings import examine

    found = []
    for finding in examine(probes(os.environ)):
        found.append(finding)
        if not is_json:
            _show(finding)
    num = {state: sum(finding.state == state for finding in found) for state in _COLORS}
    if is_json:
        print_json({"counts": num, "findings": [asdict(finding) for finding in found]})
    else:
        click.echo(f"{_count(num['problem'], 'problem')}, {_count(num['note'], 'note')}, {num['ok']} ok.")
    if num["problem"]:
        raise SystemExit(1)


def _show(finding: "Finding") -> None:
    state = click.style(f"{finding.state:<8}", fg=_COLORS[finding.state], bold=finding.state == "problem")
    click.echo(f"{state} {finding.name:<17} {finding.value}")
    if finding.fix:
        click.echo(f"{'':<27}fix: {finding.fix}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
