"""Derived from the measured figures of training: ratios, a check of the baseline against the original, the goals."""

from typing import Any

from benchmarks.derived import TOLERANCE, at_least, at_most, median_ms
from benchmarks.training_worker import TUNED_TUTORIALS

Results = dict[str, Any]
RECORDED_RATIOS = {
    "loading, not augmented : augmented": 874 / 148,
    "loading, memcpy : tutorial": 21_500 / 0.67 / 874,
    "evaluation : training, as it is": 59 / 13.6,
    "evaluation : training, malloc tuned": 112 / 18.2,
}
"""Samples a second of the tutorial's own code, measured once on an idle machine with two AVX2 cores."""
LOSS_BOUND = 1e-4
WAITING_BOUND = 0.03


def times_of(section: Results, name: str) -> dict[str, float]:
    """Return the speed relative to the tutorial as it is, and to the faster of the tuned ones."""
    taken = median_ms(section, name)
    return {
        "times_tutorial": round(median_ms(section, "tutorial") / taken, 3),
        "times_tuned_tutorial": round(tuned_ms(section) / taken, 3),
    }


def tuned_ms(section: Results) -> float:
    """Return the milliseconds of the tutorial with malloc tuned, for the faster kind of tuning."""
    return min(median_ms(section, name) for name in TUNED_TUTORIALS)


def ratios(results: Results) -> Results:
    """Return all ratios, by part and way."""
    found: Results = {}
    if loading := results.get("loading"):
        found["loading"] = {f"project{suffix}": _loading_ratios(loading, suffix) for suffix in ("", "_augmented")}
    for part in ("training", "evaluation"):
        if section := results.get("steps", {}).get(part):
            found[part] = {name: times_of(section, name) for name in section}
    return found


def baseline(results: Results) -> Results:
    """Compare ratios within the tutorial's procedure with those measured with its own code."""
    measured: dict[str, float] = {}
    if loading := results.get("loading"):
        plain = median_ms(loading, "tutorial_samples")
        measured["loading, not augmented : augmented"] = median_ms(loading, "tutorial_samples_augmented") / plain
        measured["loading, memcpy : tutorial"] = plain / median_ms(loading, "memcpy")
    if steps := results.get("steps"):
        sizes = results["workload"]
        samples = sizes["num_evaluated"] / sizes["batch_size"]
        as_it_is = median_ms(steps["training"], "tutorial") / median_ms(steps["evaluation"], "tutorial")
        tuned = tuned_ms(steps["training"]) / tuned_ms(steps["evaluation"])
        measured["evaluation : training, as it is"] = samples * as_it_is
        measured["evaluation : training, malloc tuned"] = samples * tuned
    return {name: _compared(ratio, RECORDED_RATIOS[name]) for name, ratio in measured.items()}


def goals(results: Results) -> list[Results]:
    """Return the goals of the parts that were measured."""
    found: list[Results] = []
    if results.get("loading"):
        found += _loading(results)
    if results.get("steps"):
        found += _steps(results)
    if epoch := results.get("epoch"):
        found.append(at_most("share of an epoch that waits for data", epoch["share_waiting"], WAITING_BOUND))
    return found


def _loading_ratios(loading: Results, suffix: str) -> dict[str, float]:
    taken = median_ms(loading, f"project{suffix}")
    return {
        "times_tutorial": round(median_ms(loading, f"tutorial{suffix}") / taken, 2),
        "times_tutorial_samples": round(median_ms(loading, f"tutorial_samples{suffix}") / taken, 2),
        "share_of_memcpy": round(median_ms(loading, "memcpy") / taken, 3),
    }


def _loading(results: Results) -> list[Results]:
    reached = ratios(results)["loading"]
    return [
        at_least("loading, times the tutorial", reached["project"]["times_tutorial"], 20),
        at_least("loading, share of memcpy", reached["project"]["share_of_memcpy"], 0.6),
        at_least("loading and augmenting, times the tutorial", reached["project_augmented"]["times_tutorial"], 10),
        at_least("both load the same voxels", float(results["is_loading_equal"]), 1),
    ]


def _steps(results: Results) -> list[Results]:
    found = []
    for part, (plain, tuned) in {"training": (1.7, 1.25), "evaluation": (3, 1.5)}.items():
        reached = ratios(results)[part]["project"]
        found.append(at_least(f"{part}, times the tutorial as it is", reached["times_tutorial"], plain))
        found.append(at_least(f"{part}, times the tutorial with malloc tuned", reached["times_tuned_tutorial"], tuned))
        # Rounded with many digits: 0.00004 must not become 0.
        largest = max(results["steps"]["losses"][part].values())
        goal = {"goal": f"{part}, largest deviation of a loss", "value": float(f"{largest:.2g}")}
        found.append({**goal, "bound": f"<= {LOSS_BOUND:g}", "is_met": largest <= LOSS_BOUND})
    return found


def _compared(ratio: float, recorded: float) -> Results:
    deviation = ratio / recorded - 1
    return {
        "ratio": round(ratio, 2),
        "recorded": round(recorded, 2),
        "deviation": round(deviation, 3),
        "is_within_tolerance": abs(deviation) <= TOLERANCE,
    }
