"""dagster.yaml of one machine and of the stack: the same, except for what must differ."""

import yaml

from luna_pipeline.runs import leases
from luna_pipeline_tests.processes import REPOSITORY

DIFFERENCES = {
    "storage": "one machine has SQLite below DAGSTER_HOME, the stack PostgreSQL",
    "local_artifact_storage": "webserver and code location of the stack share a folder outside DAGSTER_HOME",
    "compute_logs": "as local_artifact_storage",
    "concurrency.pools": "without a daemon, runs on a terminal would wait forever for the slot of a killed one",
    "concurrency.runs.tag_concurrency_limits": "two processes fit into a workstation, eight into a server",
    "run_retries.max_retries": "a server's services restart; on one machine, a lost run was mostly short of memory",
}
"""Place and reason."""


def settings(name: str) -> dict[str, object]:
    return _flat(yaml.safe_load((REPOSITORY / name).read_text()))


def _flat(values: dict, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def test_files_differ_only_where_they_must():
    machine, stack = settings("dagster.yaml"), settings("deploy/stack/dagster.yaml")
    different = {place for place in machine | stack if machine.get(place) != stack.get(place)}
    explained = {name for name in DIFFERENCES for place in different if f"{place}.".startswith(f"{name}.")}
    unexplained = {place for place in different if not any(f"{place}.".startswith(f"{name}.") for name in DIFFERENCES)}
    assert unexplained == set()
    assert explained == set(DIFFERENCES)


def test_slots_of_a_killed_run_are_free_within_the_two_minutes_that_the_comment_promises():
    for name in ("dagster.yaml", "deploy/stack/dagster.yaml"):
        monitoring = yaml.safe_load((REPOSITORY / name).read_text())["run_monitoring"]
        look = monitoring["poll_interval_seconds"]
        missed = leases.LOST_AFTER_SECONDS + 2 * look
        assert missed == 80
        assert missed + monitoring["free_slots_after_run_end_seconds"] + look <= 120
        # A process that cannot renew its lease still works for this long after the last renewal.
        assert leases.STOP_AFTER_SECONDS < leases.LOST_AFTER_SECONDS
        comment = (REPOSITORY / name).read_text().replace("\n  # ", " ")
        assert "free within two minutes of the kill: its process is missed within 80 s, and" in comment
        assert "free 30 to 40 s after that" in comment
