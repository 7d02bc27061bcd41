"""The sensor that reports failed runs: each once on every channel, whatever state the receiver is in."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

import dagster as dg

from luna_pipeline.alerts.channels import MAIL_TO, URLS, WEBHOOK, Channel, ChannelError, Channels
from luna_pipeline.alerts.content import MAX_DETAILED, Alert, Message, alert_of, short_alert_of
from luna_pipeline.alerts.outcome import RETRY_LIMIT_SECONDS, Fate, Outcome, outcome_of
from luna_pipeline.alerts.records import Backoff, Records

TICK_SECONDS = 30
SENDING_SECONDS = 20.0
"""Time after which a tick begins no further message; Dagster gives a tick 60 s."""
_TICK_LOCK = threading.Lock()


@dg.sensor(
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Reports failed runs by chat, mail or webhook; off until {URLS}, {WEBHOOK} or {MAIL_TO} is set.",
)
def run_failed(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Report each failed run of the instance once, including its nested runs; retried runs after their last attempt."""
    # A tick that Dagster gave up may still be sending.
    if not _TICK_LOCK.acquire(blocking=False):
        return dg.SkipReason("The tick before is still sending")
    try:
        return dg.SkipReason(tick(context.instance, Channels.from_environment(), now=time.time()))
    finally:
        _TICK_LOCK.release()


def tick(instance: dg.DagsterInstance, channels: Channels, *, now: float, dagster_url: str | None = None) -> str:
    """Find failed runs without a record, decide about them, and report those that are due.

    Every failed run of the instance has a record, also those of the command line. So there is no cursor, which would
    depend on clocks and on the order in which runs end. The first tick of an instance records what has failed so far
    as settled.
    A message that was sent is recorded at once; if the process is killed between, it is sent again.

    Args:
        instance: The instance whose runs are watched.
        channels: Where to send.
        now: Time in seconds since 1970.
        dagster_url: Address of Dagster's page; by default ``LUNA_DAGSTER_URL``.

    Returns:
        What was done.

    Raises:
        RuntimeError: Names settings that are wrong and channels that did not take a message, after all were tried.
    """
    failed_ids = instance.get_run_ids(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))[::-1]
    records = Records.load(instance)
    if records is None:
        return _first_tick(instance, failed_ids, now)
    records.add(failed_ids, now=now)
    runs = _decide(instance, records, now)
    is_off = not channels.usable and not channels.problems
    if is_off:
        _settle_due(records, reported_on=set())
        records.save(instance)
        return f"Alerts are off: none of {URLS}, {WEBHOOK} and {MAIL_TO} is set"
    # Nothing is sent without a stored entry.
    records.save(instance)
    url = os.environ.get("LUNA_DAGSTER_URL", "") if dagster_url is None else dagster_url
    failures = _Sending(instance, records, runs, url.rstrip("/")).send(channels)
    if failures:
        msg = f"An alert must reach every channel, got {'; '.join(failures)}. It is sent again: check the settings."
        raise RuntimeError(msg)
    num_due = sum(entry.is_due for entry in records.open.values())
    return (
        f"{num_due} failed runs are to be reported, {len(records.open) - num_due} wait for a retry or their outer run"
    )


def _first_tick(instance: dg.DagsterInstance, failed_ids: Sequence[str], now: float) -> str:
    records = Records()
    records.add(failed_ids, now=now)
    for run_id in failed_ids:
        records.settle(run_id)
    records.save(instance)
    return f"The first look at this instance: {len(failed_ids)} runs that failed before it are not reported"


def _decide(instance: dg.DagsterInstance, records: Records, now: float) -> dict[str, dg.DagsterRun]:
    """Settle runs that need not be reported, mark those that are due, and return the open runs by id."""
    runs = {run.run_id: run for run in _runs(instance, list(records.open))}
    for run_id, entry in list(records.open.items()):
        # The difference's sign does not matter: after a step of the clock nothing waits for longer than the limit.
        waited_seconds = abs(now - entry.seen)
        if run_id in runs and entry.is_due:
            continue
        try:
            outcome = outcome_of(instance, runs.get(run_id), waited_seconds=waited_seconds)
        except Exception:
            # One run whose records cannot be read must not hold back the others, and is not lost.
            outcome = Outcome(Fate.REPORT if waited_seconds >= RETRY_LIMIT_SECONDS else Fate.WAIT)
        if outcome.fate == Fate.DROP:
            records.settle(run_id)
        elif outcome.fate == Fate.REPORT:
            entry.is_due, entry.note = True, outcome.note
    return runs


def _runs(instance: dg.DagsterInstance, run_ids: list[str]) -> Iterable[dg.DagsterRun]:
    """Yield runs by their ids, in requests that every database accepts."""
    for start in range(0, len(run_ids), 500):
        yield from instance.get_runs(dg.RunsFilter(run_ids=run_ids[start : start + 500]))


def _settle_due(records: Records, *, reported_on: set[str]) -> None:
    """Settle the due runs that were reported on all of the channels."""
    for run_id, entry in list(records.open.items()):
        if entry.is_due and reported_on <= set(entry.reported):
            records.settle(run_id)


@dataclass
class _Sending:
    """Sends what is due on all channels at the same time, one message a channel, until nothing is left."""

    instance: dg.DagsterInstance
    records: Records
    runs: Mapping[str, dg.DagsterRun]
    dagster_url: str
    alerts: dict[tuple[str, bool], Alert] = field(default_factory=dict)

    def send(self, channels: Channels) -> list[str]:
        """Send and record; return what went wrong."""
        failures = list(channels.problems)
        ready = [channel for channel in channels.usable if self._is_ready(channel)]
        deadline = time.monotonic() + SENDING_SECONDS
        while ready and time.monotonic() < deadline:
            messages = [(channel, self._pending(channel)) for channel in ready]
            failed = self._send_round([(channel, run_ids) for channel, run_ids in messages if run_ids])
            failures += [f"{channel.name}: {failed[channel]}" for channel in ready if channel in failed]
            ready = [channel for channel, run_ids in messages if run_ids and channel not in failed]
        if not channels.problems:
            _settle_due(self.records, reported_on={channel.key for channel in channels.usable})
        used = {channel.key for channel in channels.usable}
        self.records.channels = {key: state for key, state in self.records.channels.items() if key in used}
        self.records.save(self.instance)
        return failures

    def _is_ready(self, channel: Channel) -> bool:
        """Return whether a channel has its turn: from the second failure on, only every other tick."""
        state = self.records.channels.get(channel.key)
        if state is None or not state.num_skipped_ticks or not self._pending(channel):
            return True
        state.num_skipped_ticks -= 1
        return False

    def _pending(self, channel: Channel) -> list[str]:
        entries = self.records.open.items()
        pending = [run_id for run_id, entry in entries if entry.is_due and channel.key not in entry.reported]
        return pending[: channel.max_runs]

    def _send_round(self, pending: list[tuple[Channel, list[str]]]) -> dict[Channel, str]:
        """Send one message a channel; return the reasons by channel that failed."""
        if not pending:
            return {}
        failed = {}
        with ThreadPoolExecutor(len(pending)) as pool:
            sent = {
                pool.submit(_reason_of, channel.send, self._message(run_ids)): (channel, run_ids)
                for channel, run_ids in pending
            }
            for future in as_completed(sent):
                channel, run_ids = sent[future]
                if reason := future.result():
                    failed[channel] = reason
                self._record(channel, run_ids, is_sent=not reason)
        return failed

    def _record(self, channel: Channel, run_ids: list[str], *, is_sent: bool) -> None:
        if is_sent:
            self.records.channels.pop(channel.key, None)
            for run_id in run_ids:
                self.records.open[run_id].reported.append(channel.key)
        else:
            state = self.records.channels.setdefault(channel.key, Backoff())
            state.num_failures += 1
            state.num_skipped_ticks = int(state.num_failures > 1)
        self.records.save(self.instance)

    def _message(self, run_ids: list[str]) -> Message:
        detailed = set(run_ids[:MAX_DETAILED])
        return Message([self._alert(run_id, is_detailed=run_id in detailed) for run_id in run_ids])

    def _alert(self, run_id: str, *, is_detailed: bool) -> Alert:
        key = (run_id, is_detailed)
        if key not in self.alerts:
            self.alerts[key] = self._new_alert(run_id, is_detailed=is_detailed)
        return self.alerts[key]

    def _new_alert(self, run_id: str, *, is_detailed: bool) -> Alert:
        run, note = self.runs[run_id], self.records.open[run_id].note
        if not is_detailed:
            return short_alert_of(run, dagster_url=self.dagster_url, note=note)
        try:
            return alert_of(self.instance, run, dagster_url=self.dagster_url, note=note)
        except Exception:
            # One run whose events cannot be read must not hold back the others.
            return short_alert_of(run, dagster_url=self.dagster_url, note=note)


def _reason_of(send: Callable[[Message], None], message: Message) -> str:
    """Send a message; return why it failed, or nothing."""
    try:
        send(message)
    except ChannelError as error:
        return str(error)
    except Exception as error:
        return type(error).__name__
    return ""
