"""How tests are distributed over workers, and the table of slow ones."""

from pathlib import Path
from types import SimpleNamespace

from luna_pipeline_tests.durations import seconds_by_test, table_of
from luna_pipeline_tests.workers import LONGEST_FIRST, SPLIT, longest_first, unit_of

TESTS = Path(__file__).parent


def test_files_that_are_named_exist():
    assert [name for name in (*LONGEST_FIRST, *SPLIT) if not (TESTS / name).is_file()] == []


def test_a_file_is_a_unit_unless_its_tests_share_nothing():
    assert unit_of("luna_pipeline_tests/test_ui.py::test_a") == unit_of("luna_pipeline_tests/test_ui.py::test_b")
    one, other = (unit_of(f"luna_pipeline_tests/test_s3.py::test_{name}") for name in "ab")
    assert one != other


def test_long_files_start_first_then_those_with_slow_tests_and_the_rest_keeps_its_order():
    names = ["core/a.py::1", f"{LONGEST_FIRST[1]}::1", "core/b.py::1", f"{LONGEST_FIRST[0]}::2", "core/a.py::2"]
    slow = {"core/c.py::2"}

    def item(name: str) -> SimpleNamespace:
        marker = "slow" if name in slow else None
        return SimpleNamespace(nodeid=f"luna_pipeline_tests/{name}", get_closest_marker=lambda _: marker)

    ordered = longest_first([item(name) for name in [*names, "core/c.py::1", *slow]])
    assert [item.nodeid.removeprefix("luna_pipeline_tests/") for item in ordered] == [
        f"{LONGEST_FIRST[0]}::2",
        f"{LONGEST_FIRST[1]}::1",
        "core/c.py::1",
        "core/c.py::2",
        "core/a.py::1",
        "core/b.py::1",
        "core/a.py::2",
    ]


def test_the_table_adds_up_files_and_sorts_tests(tmp_path):
    case = '<testcase classname="luna_pipeline_tests.core.{}" name="{}" time="{}"/>'
    cases = "".join(case.format(*row) for row in (("test_x", "one", 1), ("test_y", "two", 2), ("test_x", "three", 3)))
    (tmp_path / "a.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    lines = table_of(seconds_by_test([tmp_path / "a.xml"])).splitlines()
    assert lines[0] == "3 tests, 6 s one after the other"
    assert [line.split()[-1] for line in lines if " s  " in line] == [
        "core.test_x",
        "core.test_y",
        "core.test_x::three",
        "core.test_y::two",
        "core.test_x::one",
    ]
