"""Run the jobs of a make target and show their stages: ``python -m luna_pipeline.terminal demo``."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import click

from luna_pipeline.settings import Settings, demo_environment
from luna_pipeline.terminal.display import Display, display_for
from luna_pipeline.terminal.finished import Finished, present_state, read, write
from luna_pipeline.terminal.follow import StageFollower
from luna_pipeline.terminal.log_lines import reason_of, scores_in
from luna_pipeline.terminal.plans import PLANS, Plan
from luna_pipeline.terminal.processes import run_logged


@click.command()
@click.argument("target", type=click.Choice(list(PLANS)))
@click.option("--force", is_flag=True, help="Run everything, also if nothing has changed since the last time.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of data and training.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False), help="Configuration file of the job.")
@click.option("--real", default="", help="Folder of the real scans.")
def main(target: str, *, force: bool, seed: int, config: str | None, real: str) -> None:
    """Run the jobs of a make target, show their stages, and keep the log in a file.

    Exit code: 0 success, 1 failure or interruption.
    """
    plan = PLANS[target]
    for name, value in (("seed", seed), ("config", config)):
        if value and not plan.uses(name):
            msg = f"`make {target}` must be given only what it uses, got {name.upper()}={value}. Leave it out."
            raise click.UsageError(msg)
    if plan.on_phantom:
        os.environ.update(demo_environment(os.environ))
    settings = Settings.from_environment()
    values = {"seed": str(seed), "config": config or plan.default_config, "real": real, "data": str(settings.data_dir)}
    work = Work(plan, settings, [_filled(command.arguments, values, config) for command in plan.commands])
    sys.exit(work.run(is_forced=force))


def _filled(arguments: Sequence[str], values: dict[str, str], config: str | None) -> list[str]:
    """Return arguments with values in place of their names."""
    filled: list[str] = []
    for argument in arguments:
        filled += _book_files(values["real"]) if argument == "{book}" else [argument.format(**values)]
    is_used = any("{config}" in argument for argument in arguments)
    # A configuration file replaces the configuration of the plan.
    if config and not is_used and "--config-json" in filled:
        place = filled.index("--config-json")
        filled[place : place + 2] = ["-c", config]
    return filled


def _book_files(real: str) -> list[str]:
    """Return the published networks among the real data."""
    return sorted(map(str, Path(real, "book").glob("*.state")))


@dataclass(frozen=True)
class Work:
    """A plan in an installation.

    Attributes:
        plan: The plan.
        settings: Paths of the installation.
        commands: Its commands with their arguments.
    """

    plan: Plan
    settings: Settings
    commands: list[list[str]]

    @property
    def marker(self) -> Path:
        """File of the state after the last success."""
        return self.settings.local_home / f".{self.plan.target}_finished.json"

    def run(self, *, is_forced: bool) -> int:
        """Run what has to be run, and return the exit code."""
        before, now = read(self.marker), self._state()
        difference = before.difference(now) if before else ""
        stages = self.plan.stages
        display = display_for(len(stages), max(len(stage.title) for stage in stages))
        try:
            if before and not difference and not is_forced:
                self._say_finished(display, before)
                return 0
            self.marker.unlink(missing_ok=True)
            log = self._new_log()
            self._announce(display, log, f"Run again: {difference}." if difference else "")
            return self._run_all(display, log)
        finally:
            display.close()

    def _state(self) -> Finished:
        return present_state(self.settings, self.commands, os.environ.get("DAGSTER_HOME", ""))

    def _new_log(self) -> Path:
        folder = self.settings.local_home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.plan.target}-{datetime.now():%Y%m%d-%H%M%S}.log"

    def _announce(self, display: Display, log: Path, reason: str) -> None:
        display.line(self.plan.about)
        display.line(f"It takes {self.plan.duration}. Results: {_shown(self.settings.local_home)}.")
        display.line(f"Log: {_shown(log)}")
        if reason:
            display.line(reason)
        display.line()

    def _run_all(self, display: Display, log: Path) -> int:
        started, follower = time.monotonic(), StageFollower(self.plan.stages, display)
        follower.start()
        for command, arguments in zip(self.plan.commands, self.commands, strict=True):
            program = shutil.which(arguments[0]) or arguments[0]
            code = run_logged([program, *arguments[1:]], log, follower.read)
            if code:
                self._say_failed(display, follower, log, code)
                return 1
            follower.end_through(command.stages[-1])
        # A study has no table of scores: its winner is shown.
        shown = scores_in(log.read_text(errors="replace")) or [result for result in follower.results if result][-1:]
        state = replace(
            self._state(),
            seconds=time.monotonic() - started,
            finished_at=f"{datetime.now():%Y-%m-%d %H:%M}",
            shown=shown,
        )
        write(self.marker, state)
        display.line()
        self._say_results(display, state)
        return 0

    def _say_failed(self, display: Display, follower: StageFollower, log: Path, code: int) -> None:
        title = follower.current.title if follower.current else self.plan.target
        reason = reason_of(log.read_text(errors="replace"))
        if "Interrupted" in reason or code in (-signal.SIGINT, -signal.SIGTERM):
            display.warn("WARNING", f"{title} was interrupted after {follower.seconds:.0f} s.")
        else:
            display.warn("ERROR", f"{title} failed after {follower.seconds:.0f} s: {reason}")
        display.line(f"Log with all details: {_shown(log)}")
        display.line(f"What was finished is kept: `make {self.plan.target}` continues with it.")

    def _say_finished(self, display: Display, before: Finished) -> None:
        display.line(self.plan.about)
        done = f"Nothing to do: finished on {before.finished_at} in {before.seconds:.0f} s with the same code and data."
        display.line(f"{done} `make {self.plan.target} FORCE=1` runs everything again.")
        display.line()
        self._say_results(display, before)

    def _say_results(self, display: Display, state: Finished) -> None:
        for line in state.shown:
            display.line(line)
        display.line()
        display.line("Look at it:")
        width = max(map(len, self.plan.look))
        for command, what in self.plan.look.items():
            display.line(f"  {command:<{width}}  {what}")


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    main()
