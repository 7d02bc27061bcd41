"""Records of what was reported: one JSON document in Dagster's storage, as leases are.

A sensor's cursor is stored only after the tick, and not if it fails: a tick that ends between two channels would send
to the first one twice. This document is stored after each message that a channel has taken.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import dagster as dg

KEY = "luna/alerts"


@dataclass
class Entry:
    """A failed run that was not reported on every channel yet.

    Attributes:
        seen: Time of the tick that found it, in seconds since 1970.
        is_due: Whether it is to be reported; undecided before.
        note: Further line of its alert.
        reported: Keys of the channels on which it was reported.
    """

    seen: float
    is_due: bool = False
    note: str = ""
    reported: list[str] = field(default_factory=list)


@dataclass
class Backoff:
    """Failed attempts of a channel since its last success, and the ticks until the next attempt.

    Ticks, not seconds, are counted: a receiver that is back gets them within two ticks, whatever the clocks say.
    """

    num_failures: int = 0
    num_skipped_ticks: int = 0


@dataclass
class Records:
    """Everything that is remembered between two ticks.

    Attributes:
        settled: Digests of the ids of failed runs that are reported or need no report. They are removed with the run.
        open: The other failed runs, by id, in the order in which they were found.
        channels: State of the channels that failed last, by key.
    """

    settled: set[str] = field(default_factory=set)
    open: dict[str, Entry] = field(default_factory=dict)
    channels: dict[str, Backoff] = field(default_factory=dict)
    stored: str = field(default="", compare=False)

    @classmethod
    def load(cls, instance: dg.DagsterInstance) -> "Records | None":
        """Read the records; None before the first tick, or if they are not readable."""
        stored = instance.daemon_cursor_storage.get_cursor_values({KEY}).get(KEY, "")
        try:
            values = json.loads(stored)
            entries = {run_id: Entry(**entry) for run_id, entry in values["open"].items()}
            channels = {key: Backoff(**state) for key, state in values["channels"].items()}
            return cls(set(values["settled"]), entries, channels, stored)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def save(self, instance: dg.DagsterInstance) -> None:
        """Store the records, if they changed."""
        values = {
            "settled": sorted(self.settled),
            "open": {run_id: asdict(entry) for run_id, entry in self.open.items()},
            "channels": {key: asdict(state) for key, state in self.channels.items()},
        }
        text = json.dumps(values)
        if text != self.stored:
            instance.daemon_cursor_storage.set_cursor_values({KEY: text})
            self.stored = text

    def add(self, failed_ids: Iterable[str], *, now: float) -> None:
        """Open an entry for each failed run without a record, and remove the records of runs that are gone."""
        digests = {run_id: _digest(run_id) for run_id in failed_ids}
        self.settled &= set(digests.values())
        for run_id, digest in digests.items():
            if digest not in self.settled and run_id not in self.open:
                self.open[run_id] = Entry(seen=now)

    def settle(self, run_id: str) -> None:
        """Close the entry of a run."""
        del self.open[run_id]
        self.settled.add(_digest(run_id))


def unreported_runs(instance: dg.DagsterInstance) -> set[str]:
    """Return the failed runs about which an alert is still to be sent or decided; none before the first tick."""
    records = Records.load(instance)
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
    return {it for it in instance.get_run_ids(failed) if _digest(it) not in records.settled} if records else set()


def _digest(run_id: str) -> str:
    return hashlib.sha256(run_id.encode()).hexdigest()[:12]
