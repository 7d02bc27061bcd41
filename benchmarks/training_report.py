"""The results of training as text for a terminal, and as the tables of docs/results/training_speed.md."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.derived import TOLERANCE
from benchmarks.report import goal_lines, machine_lines, spread

Results = dict[str, Any]
BEGIN, END = "<!-- begin: python -m benchmarks.bench_training -->", "<!-- end -->"


def text_of(results: Results) -> str:
    """Return everything that was measured, in sections."""
    lines = list(machine_lines(results["machine"]))
    sections = {"loading": _loading, "steps": _steps, "epoch": _epoch, "baseline": _baseline}
    for name, write in sections.items():
        if results.get(name):
            lines += ["", f"== {name}", *write(results)]
    return "\n".join([*lines, "", "== goals", *goal_lines(results["goals"])])


def markdown_of(results: Results) -> str:
    """Return goals, ratios and the check of the baseline as tables; ratios only, no milliseconds."""
    machine = results["machine"]
    where = f"{machine['processor']}, {machine['num_cores']} cores, torch {machine['torch']}, {machine['date']}"
    lines = [f"Measured on {where}, load before {machine['load_before']}.", "", "| goal | reached | bound | |"]
    lines.append("|---|---|---|---|")
    for goal in results["goals"]:
        lines.append(
            f"| {goal['goal']} | {goal['value']:g} | {goal['bound']} | {'met' if goal['is_met'] else 'missed'} |"
        )
    if loading := results["ratios"].get("loading"):
        lines += ["", "| loading | x tutorial | x its samples alone | of memcpy |", "|---|---|---|---|"]
        for name, ratio in loading.items():
            times = f"{ratio['times_tutorial']:.1f} | {ratio['times_tutorial_samples']:.1f}"
            lines.append(f"| {name.replace('_', ' ')} | {times} | {ratio['share_of_memcpy']:.0%} |")
    for part in ("training", "evaluation"):
        if part in results["ratios"]:
            lines += ["", f"| {part} | x tutorial as it is | x tutorial, malloc tuned |", "|---|---|---|"]
            for name, ratio in results["ratios"][part].items():
                words = name.replace("_", " ")
                lines.append(f"| {words} | {ratio['times_tutorial']:.2f} | {ratio['times_tuned_tutorial']:.2f} |")
    if results["baseline"]:
        lines += ["", "| baseline check | here | recorded | deviation |", "|---|---|---|---|"]
        for name, found in results["baseline"].items():
            lines.append(f"| {name} | {found['ratio']} | {found['recorded']} | {found['deviation']:+.0%} |")
    return "\n".join(lines)


def fill(page: Path, results: Results) -> None:
    """Write the tables between the page's marks.

    Raises:
        ValueError: If the marks are not there.
    """
    text = page.read_text()
    if BEGIN not in text or END not in text:
        msg = f"A page must have the marks {BEGIN} and {END}, got none ({page.name})."
        raise ValueError(f"{msg} Put them where the tables belong.")
    before, rest = text.split(BEGIN, 1)
    page.write_text(f"{before}{BEGIN}\n{markdown_of(results)}\n{END}{rest.split(END, 1)[1]}")


def _loading(results: Results) -> Iterator[str]:
    yield f"{results['workload']['num_loaded']} random samples into float32"
    for name, timing in results["loading"].items():
        yield f"{name:<28}{spread(timing)}"
    for name, ratio in results["ratios"]["loading"].items():
        yield (
            f"{name:<28}{ratio['times_tutorial']:>10.1f} x the tutorial, {ratio['times_tutorial_samples']:.1f} x its "
            f"samples alone, {ratio['share_of_memcpy']:.0%} of memcpy"
        )


def _steps(results: Results) -> Iterator[str]:
    for part in ("training", "evaluation"):
        yield f"{part:<28}{'median ms':>10}{'min':>9}{'max':>9}{'x tutorial':>12}{'x tuned':>9}{'loss differs by':>17}"
        for name, timing in results["steps"][part].items():
            ratio, deviation = results["ratios"][part][name], results["steps"]["losses"][part][name]
            times = f"{ratio['times_tutorial']:>12.2f}{ratio['times_tuned_tutorial']:>9.2f}"
            yield f"{name:<28}{spread(timing)}{times}{deviation:>17.1e}"
    if (seconds := results["steps"].get("compile_seconds")) is not None:
        yield f"the compiled way's first step, translation included: {seconds} s"
    yield f"sgemm: {results['steps']['sgemm_gflops']} GFLOP/s"


def _epoch(results: Results) -> Iterator[str]:
    epoch = results["epoch"]
    yield (
        f"{epoch['num_batches']} batches with all five changes, {epoch['num_workers']} workers: "
        f"{epoch['seconds']:.1f} s, of which {epoch['share_waiting']:.2%} waiting for data"
    )


def _baseline(results: Results) -> Iterator[str]:
    for name, found in results["baseline"].items():
        verdict = "within" if found["is_within_tolerance"] else "not within"
        yield (
            f"{name}: {found['ratio']}, the tutorial's own code {found['recorded']} "
            f"({found['deviation']:+.0%}): {verdict} {TOLERANCE:.0%}"
        )
