import pytest

from benchmarks.derived import baseline, goals, limit_ms, ratios, steady_rates


def section(**medians_ms: float) -> dict[str, dict[str, float]]:
    return {name: {"median_ms": value} for name, value in medians_ms.items()}


ONE_SERIES = section(
    tutorial=5000,
    tutorial_without_csv=2000,
    tutorial_zraw=6000,
    tutorial_zraw_without_csv=3000,
    project=125,
    project_zraw=300,
    project_synced=250,
    read_write=100,
    read_write_reserved=80,
    read_write_synced=200,
    read_write_reserved_synced=240,
)


def test_the_limit_is_the_faster_way_of_writing():
    assert limit_ms(ONE_SERIES, is_synced=False) == 80
    assert limit_ms(ONE_SERIES, is_synced=True) == 200


def test_each_way_is_held_to_the_tutorial_and_the_limit_of_its_kind():
    found = ratios(ONE_SERIES)
    expected = {"times_tutorial": 40.0, "times_tutorial_without_csv": 16.0, "share_of_limit": 0.64}
    assert found["project"] == expected
    assert found["project_synced"]["share_of_limit"] == 0.8
    assert found["project_zraw"]["times_tutorial"] == 20.0
    assert found["project_zraw"]["times_tutorial_without_csv"] == 10.0


@pytest.mark.parametrize(("tutorial_ms", "is_right"), [(5478, True), (6800, True), (6900, False), (4000, False)])
def test_the_baseline_is_the_tutorials_within_a_quarter(tutorial_ms, is_right):
    found = baseline(section(tutorial=tutorial_ms, tutorial_without_csv=1853, read_write_fresh=100))
    assert found["is_within_tolerance"] is is_right
    assert found["tutorial"]["ratio"] == pytest.approx(tutorial_ms / 100)


def test_goals_say_what_is_met_and_what_is_missed():
    found = {goal["goal"]: goal for goal in goals({"one_series": ONE_SERIES})}
    met = {name: goal["is_met"] for name, goal in found.items()}
    assert met == {
        "one series, times the tutorial": True,
        "one series, times the tutorial without its CSV": True,
        "one series, share of plainly reading and writing the bytes": True,
        "one series, share of the fastest read + write known (room reserved)": False,
    }


def test_the_bound_of_memory_is_two_cts_and_300_mib():
    results = {"workload": {"size_irc": (240, 512, 512)}, "memory": {"850": {"peak_mib": 540.0}}}
    (goal,) = goals(results)
    assert goal["bound"] == "<= 540"
    assert goal["is_met"]


def test_the_goals_of_the_tables_are_among_them():
    goal = {"goal": "tables", "value": 70, "bound": ">= 60", "is_met": True}
    assert goals({"tables": {"goals": [goal]}}) == [goal]


def test_one_way_that_cuts_other_voxels_misses_the_goal():
    equality = {"num_unequal": 0, "is_zraw_equal": True, "are_workers_equal": False}
    assert [goal["is_met"] for goal in goals({"equality": equality})] == [True, False]


def test_the_steady_rate_is_that_of_the_series_beyond_the_first_few():
    workload = {"num_rate_series": 12, "num_series": 4, "num_candidates": 850}
    few = section(project_1_worker=600, project_2_workers=2400)
    more = section(project_1_worker=1600, project_2_workers=2900)
    found = steady_rates({"many_series": few, "rates": more, "workload": workload})
    assert found == {"project_1_worker": 6800, "project_2_workers": 13600}


def test_no_steady_rate_without_further_series():
    sizes = {"num_rate_series": 4, "num_series": 4, "num_candidates": 850}
    same = section(project_1_worker=600)
    assert steady_rates({"many_series": same, "rates": same, "workload": sizes}) == {}
