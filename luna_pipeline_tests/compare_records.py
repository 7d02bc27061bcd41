"""Compare what two runs of the pipeline's tests made: `python -m luna_pipeline_tests.compare_records A B`."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Made = dict[str, dict[str, dict[str, Any]]]
"""Kind (tables, cutouts, …), name, part: a digest, a number or a list."""


def read_record(path: Path) -> dict[str, Made]:
    """Return what each test made, by the test's id."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line.pop("test"): line for line in lines}


def differences(one: Made, other: Made) -> Iterator[str]:
    """Yield each difference in a line."""
    for kind in sorted(one.keys() | other.keys()):
        ours, theirs = one.get(kind, {}), other.get(kind, {})
        for name in sorted(ours.keys() ^ theirs.keys()):
            yield f"{kind} {name}: only in the {'first' if name in ours else 'second'}"
        for name in sorted(ours.keys() & theirs.keys()):
            for part in sorted(ours[name].keys() | theirs[name].keys()):
                mine, its = ours[name].get(part), theirs[name].get(part)
                if mine != its:
                    yield f"{kind} {name}: {part}: {_short(mine)} and {_short(its)}"


def compare(one: dict[str, Made], other: dict[str, Made]) -> tuple[Counter[str], list[str]]:
    """Return how many of each kind were compared, and every difference."""
    counts, found = Counter[str](), []
    for test in sorted(one.keys() ^ other.keys()):
        found.append(f"{test}: only in the {'first' if test in one else 'second'}")
    for test in sorted(one.keys() & other.keys()):
        counts["tests"] += 1
        for kind, things in one[test].items():
            counts[kind] += len(things)
        runs = one[test]["runs in MLflow"].values()
        histories = [values for run in runs for name, values in run.items() if name.startswith("metric ")]
        counts["metrics"] += len(histories)
        counts["values of metrics"] += sum(map(len, histories))
        found += [f"{test}: {difference}" for difference in differences(one[test], other[test])]
    return counts, found


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]} …"


def main(arguments: list[str]) -> int:
    """Say what is equal and every difference; return 1 where there is one, or nothing to compare."""
    if len(arguments) != 2:
        print("usage: python -m luna_pipeline_tests.compare_records FIRST SECOND", file=sys.stderr)
        return 2
    counts, found = compare(*(read_record(Path(name)) for name in arguments))
    print("Compared:", ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "nothing")
    for line in found:
        print(line)
    print(f"{len(found)} differences")
    return 1 if found or not counts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
