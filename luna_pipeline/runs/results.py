"""Results of runs in a sentence, for the log of the run that started them."""

import logging

import dagster as dg

NEWEST = 100
"""Number of events that are read: a run over thousands of series has tens of thousands."""
MAX_LENGTH = 200
ROWS = "dagster/row_count"


def result_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return what a run made: of each step the rows of its tables and its last message, as far as there are any."""
    steps: dict[str, list[str]] = {}
    have_spoken = set()
    for record in instance.get_records_for_run(run_id, limit=NEWEST, ascending=False).records:
        entry = record.event_log_entry
        step, made = str(entry.step_key), entry.asset_materialization
        count = made.metadata.get(ROWS) if made is not None else None
        if made is not None and count is not None:
            unit = "row" if count.value == 1 else "rows"
            steps.setdefault(step, []).append(f"{made.asset_key.to_user_string()} {count.value} {unit}")
        elif _is_message(entry) and step not in have_spoken:
            have_spoken.add(step)
            steps.setdefault(step, []).append(_shortened(entry.user_message))
    return "; ".join(", ".join(reversed(parts)) for parts in reversed(steps.values())) or "done"


def _is_message(entry: dg.EventLogEntry) -> bool:
    # IO managers write at the level DEBUG.
    return entry.dagster_event is None and entry.step_key is not None and int(entry.level) >= logging.INFO


def _shortened(message: str) -> str:
    line = message.strip().partition("\n")[0].rstrip(".")
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 1]}…"
