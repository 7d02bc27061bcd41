"""Derived from the measured figures: ratios, a check of the baseline against the original tutorial, and the goals."""

from typing import Any

RECORDED_RATIOS = {"tutorial": 5478 / 100, "tutorial_without_csv": 1853 / 100}
"""The tutorial's own code against reading into new memory and writing, measured once on an idle machine."""
TOLERANCE = 0.25
MEBIBYTE = 2**20
Results = dict[str, Any]


def median_ms(section: Results, name: str) -> float:
    """Return the median of a procedure in milliseconds."""
    return float(section[name]["median_ms"])


def limit_ms(one_series: Results, *, is_synced: bool) -> float:
    """Return the time of reading and writing the bytes, with or without reserved blocks, whichever is less."""
    suffix = "_synced" if is_synced else ""
    return min(median_ms(one_series, f"read_write{reserved}{suffix}") for reserved in ("", "_reserved"))


def ratios(one_series: Results) -> dict[str, dict[str, float]]:
    """Return, by the name of the procedure, its speed relative to the tutorial's and to the limit's.

    A procedure that flushes is compared with the limit that flushes; a compressed CT with the tutorial on the same CT.
    """
    found = {}
    for name in one_series:
        kind = "_zraw" if "zraw" in name else ""
        taken = median_ms(one_series, name)
        found[name] = {
            "times_tutorial": round(median_ms(one_series, f"tutorial{kind}") / taken, 2),
            "times_tutorial_without_csv": round(median_ms(one_series, f"tutorial{kind}_without_csv") / taken, 2),
            "share_of_limit": round(limit_ms(one_series, is_synced=name.endswith("_synced")) / taken, 3),
        }
    return found


def steady_rates(results: Results) -> dict[str, int]:
    """Return cutouts per second without the start of the workers, by the name of the procedure.

    From the additional time of many series over few; left out if they take no more time.
    """
    few, more, workload = results["many_series"], results["rates"], results["workload"]
    num_cutouts = (workload["num_rate_series"] - workload["num_series"]) * workload["num_candidates"]
    found = {}
    for name in more:
        seconds = (median_ms(more, name) - median_ms(few, name)) / 1000
        if seconds > 0 and num_cutouts > 0:
            found[name] = round(num_cutouts / seconds)
    return found


def baseline(one_series: Results) -> dict[str, Any]:
    """Compare the baseline's ratio to plain reading and writing with that of the tutorial's own code."""
    found: dict[str, Any] = {}
    for name, recorded in RECORDED_RATIOS.items():
        ratio = median_ms(one_series, name) / median_ms(one_series, "read_write_fresh")
        deviation = ratio / recorded - 1
        found[name] = {"ratio": round(ratio, 2), "recorded": recorded, "deviation": round(deviation, 3)}
    found["is_within_tolerance"] = all(abs(found[name]["deviation"]) <= TOLERANCE for name in RECORDED_RATIOS)
    return found


def goals(results: Results) -> list[dict[str, Any]]:
    """Return name, value, bound and whether it is met of each goal whose part was measured."""
    found: list[dict[str, Any]] = []
    for part, judge in _JUDGES.items():
        if results.get(part):
            found += judge(results)
    return found


def at_least(name: str, value: float, bound: float) -> dict[str, Any]:
    """Return a goal that a value must reach."""
    return {"goal": name, "value": round(value, 3), "bound": f">= {bound:g}", "is_met": value >= bound}


def at_most(name: str, value: float, bound: float) -> dict[str, Any]:
    """Return a goal that a value must not exceed."""
    return {"goal": name, "value": round(value, 3), "bound": f"<= {bound:g}", "is_met": value <= bound}


def _one_series(results: Results) -> list[dict[str, Any]]:
    section = results["one_series"]
    reached = ratios(section)["project"]
    plain = median_ms(section, "read_write") / median_ms(section, "project")
    return [
        at_least("one series, times the tutorial", reached["times_tutorial"], 40),
        at_least("one series, times the tutorial without its CSV", reached["times_tutorial_without_csv"], 15),
        at_least("one series, share of plainly reading and writing the bytes", plain, 0.8),
        at_least("one series, share of the fastest read + write known (room reserved)", reached["share_of_limit"], 0.8),
    ]


def _many_series(results: Results) -> list[dict[str, Any]]:
    section = results["many_series"]
    ratio = median_ms(section, "tutorial_two_threads_without_csv") / median_ms(section, "project_2_workers")
    return [at_least("several series on two workers, times the tutorial on two threads without its CSV", ratio, 8)]


def _memory(results: Results) -> list[dict[str, Any]]:
    num_slices, num_rows, num_cols = results["workload"]["size_irc"]
    bound_mib = 2 * (2 * num_slices * num_rows * num_cols) / MEBIBYTE + 300
    return [
        at_most(f"peak MiB, {count} candidates (two CTs + 300)", peak["peak_mib"], bound_mib)
        for count, peak in results["memory"].items()
    ]


def _growth(results: Results) -> list[dict[str, Any]]:
    return [at_least("growth with candidates, R² of a straight line", results["growth"]["fit"]["r_squared"], 0.98)]


def _unchanged(results: Results) -> list[dict[str, Any]]:
    luna16 = results["unchanged"]["luna16"]
    return [
        at_most(f"unchanged check of LUNA16's size {words}, seconds", median_ms(luna16, name) / 1000, 1)
        for name, words in {"by_note": "by its note", "by_files": "without the note"}.items()
    ]


def _startup(results: Results) -> list[dict[str, Any]]:
    section = results["startup"]
    names = {"help_seconds": "--help", "up_to_date_seconds": "up to date"}
    return [
        at_most(f"create_cutouts, {words}, seconds beyond the interpreter", section[name], 0.5)
        for name, words in names.items()
        if name in section
    ]


def _equality(results: Results) -> list[dict[str, Any]]:
    section = results["equality"]
    others = [value for name, value in section.items() if name.startswith(("is_", "are_"))]
    return [
        at_most("rows with other voxels than the tutorial's", section["num_unequal"], 0),
        at_least("all ways cut the same voxels", float(all(others)), 1),
    ]


def _tables(results: Results) -> list[dict[str, Any]]:
    return list(results["tables"]["goals"])


_JUDGES = {
    "one_series": _one_series,
    "many_series": _many_series,
    "memory": _memory,
    "growth": _growth,
    "unchanged": _unchanged,
    "startup": _startup,
    "equality": _equality,
    "tables": _tables,
}
