"""Prints the slowest files and tests of pytest's JUnit reports.

Usage: ``python -m luna_pipeline_tests.durations REPORT.xml ...``
"""

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

NUM_FILES = 15
NUM_TESTS = 30


def seconds_by_test(reports: list[Path]) -> Counter[str]:
    """Seconds of each test with its set-up and tear-down; a module's fixture counts for the first test of the file."""
    found: Counter[str] = Counter()
    for report in reports:
        for case in ET.parse(report).iter("testcase"):
            module = case.get("classname", "").removeprefix("luna_pipeline_tests.")
            found[f"{module}::{case.get('name')}"] += float(case.get("time", "0"))
    return found


def table_of(seconds: Counter[str]) -> str:
    """Table of the slowest files and tests, with the total of all."""
    files: Counter[str] = Counter()
    for name, value in seconds.items():
        files[name.partition("::")[0]] += value
    total = sum(seconds.values())
    lines = [f"{len(seconds)} tests, {total:.0f} s one after the other", "", "Slowest files"]
    lines += [f"{value:8.1f} s  {name}" for name, value in files.most_common(NUM_FILES)]
    lines += ["", "Slowest tests (seconds with set-up)"]
    lines += [f"{value:8.1f} s  {name}" for name, value in seconds.most_common(NUM_TESTS)]
    return "\n".join(lines)


def main() -> None:
    """Print the table of the reports that the command line names."""
    if not sys.argv[1:]:
        print("Reports must be given, got none. Run `make test` first.", file=sys.stderr)
        raise SystemExit(2)
    print(table_of(seconds_by_test([Path(name) for name in sys.argv[1:]])))


if __name__ == "__main__":
    main()
