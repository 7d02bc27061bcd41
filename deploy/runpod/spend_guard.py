"""Run one piece of work within limits of hours and money that hold over all restarts, then stop the pod.

The ledger on the volume is append-only: one line per minute with the time that this start has used so far. The sum over
all starts counts, so that three restarts share one budget. Time is counted from the start of this script: the pod's own
start, and the volume, which costs money while the pod is stopped, are not included. Limits have no default:

    LUNA_MAX_HOURS        hours of this work, over all restarts
    LUNA_MAX_MONEY        money, in the currency of the price
    LUNA_PRICE_PER_HOUR   the pod's price, as RunPod shows it
    LUNA_WORK             name of the work; default: its command. Finished work of the same name is not repeated.
    LUNA_STOP_SECONDS     seconds before the limit at which the work gets SIGTERM; default: 120

Only Python's own library is used.
"""

import contextlib
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

FAILED, REFUSED, SPENT = 1, 2, 3
SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Limits:
    """Limits and price.

    Attributes:
        hours: Limit of all starts together.
        money: Limit of all starts together.
        price: Price of an hour.
        stop_seconds: Seconds before the limit at which the work gets SIGTERM.
    """

    hours: float
    money: float
    price: float
    stop_seconds: float

    @classmethod
    def from_environment(cls) -> "Limits":
        """Read the limits.

        Raises:
            ValueError: If one is missing, or no positive number.
        """
        return cls(
            hours=_positive("LUNA_MAX_HOURS"),
            money=_positive("LUNA_MAX_MONEY"),
            price=_positive("LUNA_PRICE_PER_HOUR"),
            stop_seconds=_positive("LUNA_STOP_SECONDS", default="120"),
        )

    def seconds_left(self, seconds: float, money: float) -> float:
        """Return how many seconds are left of the budget."""
        return min(self.hours * 3600 - seconds, (self.money - money) / self.price * 3600)


def _positive(name: str, *, default: str = "") -> float:
    text = os.environ.get(name) or default
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    msg = f"A limit must be a positive number, got {text or 'none'} ({name}). Set it in the pod's environment."
    raise ValueError(msg)


class Ledger:
    """An append-only file of lines: time, start, event, seconds of this start, price of an hour, work.

    A killed start has no last line; it is counted until just before its next line.
    """

    def __init__(self, path: Path, *, price: float, work: str) -> None:
        self._path, self._price, self._work = path, price, work
        self._start = f"{time.time_ns():x}-{os.getpid()}"
        self._began = time.monotonic()
        self._others = self._spent_by_others()

    def write(self, event: str) -> None:
        """Append a line and flush it to the disk, so that it survives a lost pod."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        seconds = time.monotonic() - self._began
        line = "\t".join((now, self._start, event, f"{seconds:.1f}", repr(self._price), self._work))
        with self._path.open("a", encoding="utf-8") as file:
            # A line that was truncated by the end of a pod must not be joined with the next start's first one.
            file.write(f"\n{line}\n" if event == "start" else f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        # Read once a minute, because two pods on one volume share the budget.
        self._others = self._spent_by_others()

    def spent(self) -> tuple[float, float]:
        """Return seconds and money of all starts, this one up to now."""
        seconds = time.monotonic() - self._began
        return self._others[0] + seconds, self._others[1] + seconds * self._price / 3600

    def is_done(self) -> bool:
        """Return whether this work was finished before."""
        return any(event == "done" for _, event, _, _ in self._lines(of_this_work=True))

    def _spent_by_others(self) -> tuple[float, float]:
        used = {}
        for start, event, seconds, price in self._lines():
            if start != self._start:
                counted = seconds + (SECONDS_BETWEEN_LINES if event in {"start", "alive"} else 0.0)
                used[start] = (counted, counted * price / 3600)
        return sum(seconds for seconds, _ in used.values()), sum(money for _, money in used.values())

    def _lines(self, *, of_this_work: bool = False) -> list[tuple[str, str, float, float]]:
        lines = []
        for text in self._text().splitlines():
            parts = text.split("\t")
            if len(parts) == 6 and (not of_this_work or parts[5] == self._work):
                with contextlib.suppress(ValueError):
                    lines.append((parts[1], parts[2], float(parts[3]), float(parts[4])))
        return lines

    def _text(self) -> str:
        return self._path.read_text(encoding="utf-8", errors="replace") if self._path.exists() else ""


class Work:
    """The process of the work, in a separate process group."""

    def __init__(self, command: list[str]) -> None:
        self.was_interrupted = False
        signal.signal(signal.SIGTERM, self._interrupt)
        signal.signal(signal.SIGINT, self._interrupt)
        self._process = subprocess.Popen(command, start_new_session=True)
        if self.was_interrupted:
            self.ask_to_end()

    def exit_code(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """Send SIGTERM to the work; it ends its processes after writing its checkpoint."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill all remaining processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.was_interrupted = True
        if hasattr(self, "_process"):
            self.ask_to_end()


def run(ledger_path: Path, command: list[str]) -> int:
    """Run the work until it ends, is interrupted, or its budget is used up; return the exit code."""
    limits = Limits.from_environment()
    ledger = Ledger(ledger_path, price=limits.price, work=os.environ.get("LUNA_WORK") or shlex.join(command))
    if ledger.is_done():
        _say("This work is done already. To do it again give it another name: LUNA_WORK.")
        return 0
    if limits.seconds_left(*ledger.spent()) <= limits.stop_seconds:
        rule = f"The budget must not be used up, got {_state(ledger, limits)} ({ledger_path})"
        _say(f"{rule}. Raise the limits, or stop here.")
        return SPENT
    ledger.write("start")
    _say(f"{_state(ledger, limits)}: {shlex.join(command)}")
    work = Work(command)
    try:
        code, event = _watch(work, ledger, limits)
    except BaseException:
        # Without a ledger the limit cannot be enforced, so no work is started.
        work.ask_to_end()
        _wait(work, limits.stop_seconds / 2)
        raise
    finally:
        work.kill()
    ledger.write(event)
    _say(f"{event}: {_state(ledger, limits)}.")
    code = code if code >= 0 else FAILED
    if event == "interrupted":
        # The pod is being ended from outside, so it is not stopped here.
        sys.exit(code)
    return code


def _state(ledger: Ledger, limits: Limits) -> str:
    seconds, money = ledger.spent()
    return f"{seconds / 3600:.2f} of {limits.hours:g} h and {money:.2f} of {limits.money:g} spent"


def _watch(work: Work, ledger: Ledger, limits: Limits) -> tuple[int, str]:
    """Return the exit code and the outcome: done, failed, interrupted or spent."""
    next_line = time.monotonic() + SECONDS_BETWEEN_LINES
    while (code := work.exit_code()) is None:
        if time.monotonic() >= next_line:
            ledger.write("alive")
            next_line += SECONDS_BETWEEN_LINES
        left = limits.seconds_left(*ledger.spent())
        if left <= limits.stop_seconds:
            _say("The budget is used up; the work gets SIGTERM.")
            work.ask_to_end()
            # A tenth is reserved for the end of the pod.
            _wait(work, max(0.0, left - limits.stop_seconds / 10))
            return SPENT, "spent"
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if work.was_interrupted and code != 0:
        return code, "interrupted"
    return code, "done" if code == 0 else "failed"


def _wait(work: Work, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while work.exit_code() is None and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)


def stop_pod() -> None:
    """Stop the pod, so that only its volume costs money."""
    pod = os.environ.get("RUNPOD_POD_ID")
    if not pod or not shutil.which("runpodctl"):
        _say("No runpodctl or RUNPOD_POD_ID: the pod is not stopped, this container ends.")
        return
    # The second is the syntax of newer versions of runpodctl.
    for arguments in (["stop", "pod", pod], ["pod", "stop", pod]):
        if subprocess.run(["runpodctl", *arguments], check=False).returncode == 0:
            return
    _say(f"The pod must stop, got an error of runpodctl ({pod}). Stop it by hand: it still costs money.")


def _say(text: str) -> None:
    print(f"spend_guard: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Run ``run LEDGER COMMAND...`` or ``stop``; the pod is stopped unless it is being ended from outside."""
    code = REFUSED
    try:
        if arguments[0] == "run":
            code = run(Path(arguments[1]), arguments[2:])
    except (OSError, ValueError) as error:
        _say(str(error))
        code = REFUSED if isinstance(error, ValueError) else FAILED
    stop_pod()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
