"""Launch a job by the stack's queue and follow it to its end: `launch.py JOB [CONFIG.yaml]`; exit code 0, 1 or 2.

Run it in the container of the code location, which has Dagster's configuration. A lost run is retried by the daemon;
then the retry is followed.
"""

import subprocess
import sys
import time
import uuid
from pathlib import Path

import dagster as dg
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import SQLAlchemyError

WORKSPACE = Path(__file__).with_name("workspace.yaml")
POLL_SECONDS = 2.0
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
SHOWN = (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE)


def launch(job: str, config: list[str]) -> str:
    """Queue a run and return its id."""
    run_id = str(uuid.uuid4())
    options = [word for path in config for word in ("-c", path)]
    command = ["dagster", "job", "launch", "-w", str(WORKSPACE), "-j", job, "--run-id", run_id, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise SystemExit(
            f"A job must be known and its configuration right, got {said[-1]} ({job}). Look at the log above."
        )
    return run_id


def newest_attempt(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    """Return the newest of a run and its retries."""
    found = instance.get_run_group(run_id)
    runs = list(found[1]) if found else []
    return max(runs, key=lambda run: _record(instance, run).create_timestamp)


def _record(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.RunRecord:
    record = instance.get_run_record_by_id(run.run_id)
    assert record is not None
    return record


def follow(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    """Print the progress until the run, or its last retry, has ended."""
    seen: set[tuple[str, str]] = set()
    while True:
        try:
            run = newest_attempt(instance, run_id)
            _say(seen, run.run_id, f"run {run.run_id} {run.status.value}")
            for event in instance.all_logs(run.run_id, of_type=set(SHOWN)):
                shown = event.dagster_event
                assert shown is not None
                _say(seen, run.run_id, f"  {shown.step_key}: {shown.event_type_value.removeprefix('STEP_').lower()}")
            if run.status in ENDED and not _is_tried_again(run):
                return run.status
        except (DagsterPostgresException, SQLAlchemyError) as error:
            # A short outage of the database does not affect the run.
            _say(seen, run_id, f"  asking again: {type(error).__name__}")
        time.sleep(POLL_SECONDS)


def _is_tried_again(run: dg.DagsterRun) -> bool:
    """Return whether the daemon will retry the run, or has not decided yet."""
    return run.status == dg.DagsterRunStatus.FAILURE and run.tags.get("dagster/will_retry") != "false"


def _say(seen: set[tuple[str, str]], run_id: str, line: str) -> None:
    if (run_id, line) not in seen:
        seen.add((run_id, line))
        print(line, flush=True)


def main(job: str, *config: str) -> int:
    """Launch, follow, and print the result."""
    run_id = launch(job, list(config))
    with dg.DagsterInstance.get() as instance:
        return 0 if follow(instance, run_id) == dg.DagsterRunStatus.SUCCESS else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print("A job must be named, got none. Use launch.py JOB [CONFIG.yaml].", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
