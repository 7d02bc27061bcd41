"""Probes: errors and missing answers are findings, and stop no other probe."""

import threading

from luna_pipeline.launchers.doctor.examination import probes
from luna_pipeline.launchers.doctor.findings import Finding, Probe, examine
from luna_pipeline.launchers.doctor.variables import variables


def test_a_probe_that_fails_or_hangs_is_a_problem_and_the_others_follow():
    ended = threading.Event()

    def failing():
        yield Finding("first", "ok", "is kept")
        raise ValueError("a message\nof two lines")

    def hanging():
        yield Finding("before", "ok", "was found")
        ended.wait(60)

    last = Probe("last", lambda: [Finding("last", "ok", "")])
    found = list(examine([Probe("broken", failing), Probe("hangs", hanging, 0.05), last]))
    ended.set()
    states = {"first": "ok", "broken": "problem", "before": "ok", "hangs": "problem", "last": "ok"}
    assert {one.name: one.state for one in found} == states
    assert [one.value for one in found if one.state == "problem"] == [
        "a message of two lines",
        "no answer within 0.05 s",
    ]


def test_settings_that_cannot_be_read_are_a_problem_and_software_is_examined():
    made = probes({"LUNA_HOME": "ftp://server/home"})
    (problem,) = made[-1].findings()
    assert problem.state == "problem"
    assert "ftp://server/home" in problem.value
    assert {"Variables", "Python", "GPU", "Settings"} <= {probe.name for probe in made}
    assert "MLflow" not in {probe.name for probe in made}


def test_unknown_variables_name_the_nearest_one():
    wrong, strange, known = variables(
        {"LUNA_DATADIR": "x", "LUNA_QQQQQQ": "1", "LUNA_HOME": "y", "LUNA_TEST_DATA": "z"}
    )
    assert (wrong.name, wrong.state) == ("LUNA_DATADIR", "problem")
    assert "Did you mean LUNA_DATA_DIR?" in wrong.fix
    assert (strange.state, strange.fix) == ("note", "unset LUNA_QQQQQQ")
    assert (known.state, known.value) == ("ok", "LUNA_HOME")
