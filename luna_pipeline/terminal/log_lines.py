"""Lines of a run's log: the record that each belongs to, its progress, and the reason of a failure."""

import re
from dataclasses import dataclass

_RECORD = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} - dagster - (?P<level>[A-Z]+) - (?P<job>\S+) - [0-9a-f-]{36} - "
    r"(?:\d+ - )?(?P<rest>.*)"
)
_COUNTERS = (
    re.compile(r"epoch (?P<done>\d+)/(?P<total>\d+) (?P<what>training): (?P<percent>\d+) %"),
    re.compile(r"epoch (?P<done>\d+)/(?P<total>\d+) (?P<what>validation): "),
    re.compile(r"(?P<what>Synthetic series|Scan) (?P<done>\d+) of (?P<total>\d+)"),
    re.compile(r"(?P<done>\d+) of (?P<total>\d+) (?P<what>trials|candidates)"),
)
_ERROR = re.compile(r"(?:\w+\.)*(?P<kind>\w*(?:Error|Failure|Exception|Interrupted))(?:: (?P<text>.*))?")
_OF_DAGSTER = ("STEP_FAILURE", "RUN_FAILURE", "RUN_CANCELED", "PIPELINE_FAILURE")
_MAX_REASON = 400


@dataclass(frozen=True)
class Record:
    """A line of the log.

    Attributes:
        level: ``INFO``, ``WARNING``, ``ERROR`` and so on.
        place: ``job.step``.
        message: The text.
        is_first: Whether it is the first line of its record.
    """

    level: str
    place: str
    message: str
    is_first: bool = True

    @property
    def text(self) -> str:
        """Place and message, as patterns of stages are compared with it."""
        return f"{self.place}: {self.message}"

    @property
    def is_warning(self) -> bool:
        """Whether a user should see it at once; the failure of a run is shown at its end."""
        is_severe = self.level in ("WARNING", "ERROR", "CRITICAL")
        return is_severe and self.is_first and not self.message.startswith(_OF_DAGSTER)


def record_of(line: str, before: Record | None) -> Record:
    """Return the record of a line; a line without a time belongs to the record ``before``."""
    found = _RECORD.match(line)
    if found is None:
        return Record(before.level if before else "", before.place if before else "", line, is_first=False)
    # Events of the run itself have no step.
    is_of_run = found["rest"].startswith(_OF_DAGSTER)
    step, _, message = ("", "", found["rest"]) if is_of_run else found["rest"].partition(" - ")
    return Record(found["level"], f"{found['job']}.{step}", message)


@dataclass(frozen=True)
class Counter:
    """Progress within a stage.

    Attributes:
        share: Finished share of the work, from 0 to 1.
        text: The progress in words.
    """

    share: float
    text: str


def counter_of(message: str) -> Counter | None:
    """Return the progress that a message tells, None if it tells none."""
    for pattern in _COUNTERS:
        if found := pattern.search(message):
            values = found.groupdict()
            done, total, what = int(values["done"]), int(values["total"]), values["what"]
            if what in ("training", "validation"):
                done_epochs = done - 1 + int(values["percent"]) / 100 if what == "training" else done
                return Counter(done_epochs / total, f"epoch {done} of {total}")
            return Counter(done / total if total else 1.0, f"{done} of {total}")
    return None


def reason_of(log: str) -> str:
    """Return why a command failed, from its log: the cause of the first failed step, else the last line."""
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if (found := _RECORD.match(line)) and _is_failure(found)]
    if starts:
        first = starts[0]
        ends = next((n for n in range(first + 1, len(lines)) if _RECORD.match(lines[n])), len(lines))
        lines = lines[first + 1 : ends]
    errors = [found for line in lines if (found := _ERROR.fullmatch(line.strip()))]
    if errors:
        return (errors[-1]["text"] or errors[-1]["kind"])[:_MAX_REASON]
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")[:_MAX_REASON]


def _is_failure(record: "re.Match[str]") -> bool:
    return record["level"] == "ERROR" and "STEP_FAILURE" in record["rest"]


def scores_in(log: str) -> list[str]:
    """Return the last table of scores in a log, and the lines that say where the results lie."""
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Untouched test fold")]
    if not starts:
        return []
    after = lines[starts[-1] :]
    ends = after.index("") if "" in after else len(after)
    places = [line for line in after[ends:] if line.startswith(("Checkpoint ", "Report "))]
    return [*after[:ends], *places]
