"""The results as text for a terminal."""

from collections.abc import Iterator
from typing import Any

from benchmarks.derived import RECORDED_RATIOS, TOLERANCE, baseline, goals, ratios
from benchmarks.machine import IDLE_LOAD

Results = dict[str, Any]


def text_of(results: Results) -> str:
    """Return everything that was measured, in sections."""
    sections = {
        "one_series": _one_series,
        "tutorial_parts": _tutorial_parts,
        "many_series": _many_series,
        "rates": _rates,
        "steady_rates": _pairs,
        "equality": _pairs,
        "memory": _memory,
        "growth": _growth,
        "unchanged": _unchanged,
        "startup": _startup,
        "tables": _tables,
    }
    lines = list(machine_lines(results["machine"]))
    for name, write in sections.items():
        if results.get(name):
            lines += ["", f"== {name.replace('_', ' ')}", *write(results[name])]
    return "\n".join([*lines, "", "== goals", *goal_lines(goals(results))])


def machine_lines(machine: Results) -> Iterator[str]:
    """Describe the machine, and whether it was idle."""
    yield ", ".join(f"{name} {value}" for name, value in machine.items())
    if machine["load_before"] > IDLE_LOAD:
        yield f"The machine was not idle (load {machine['load_before']}): only an idle machine's ratios count."


def _one_series(section: Results) -> Iterator[str]:
    yield f"{'way':<28}{'median ms':>10}{'min':>9}{'max':>9}{'x tutorial':>12}{'x no CSV':>10}{'of limit':>10}"
    for name, ratio in ratios(section).items():
        share = f"{ratio['share_of_limit']:.0%}"
        times = f"{ratio['times_tutorial']:>12.1f}{ratio['times_tutorial_without_csv']:>10.1f}{share:>10}"
        yield f"{name:<28}{spread(section[name])}{times}"
    yield _baseline_line(section)


def _baseline_line(section: Results) -> str:
    found = baseline(section)
    parts = [
        f"{name} {found[name]['ratio']:.1f} x read_write_fresh, the tutorial's own code {recorded:.1f} "
        f"({found[name]['deviation']:+.0%})"
        for name, recorded in RECORDED_RATIOS.items()
    ]
    verdict = "within" if found["is_within_tolerance"] else "not within"
    return f"baseline check: {'; '.join(parts)}: {verdict} {TOLERANCE:.0%}"


def _tutorial_parts(section: Results) -> Iterator[str]:
    yield ", ".join(f"{name.replace('_', ' ')} {share:.1%}" for name, share in section.items())


def _many_series(section: Results) -> Iterator[str]:
    tutorial_ms = section["tutorial_two_threads_without_csv"]["median_ms"]
    for name, timing in section.items():
        yield f"{name:<36}{spread(timing)}{tutorial_ms / timing['median_ms']:>10.1f} x"


def _rates(section: Results) -> Iterator[str]:
    for name, timing in section.items():
        yield f"{name:<36}{spread(timing)}{timing['cutouts_a_second']:>10,} cutouts a second"


def _memory(section: Results) -> Iterator[str]:
    for count, peak in section.items():
        yield (
            f"{count:>6} candidates: {peak['before_mib']:.0f} MiB before, {peak['peak_mib']:.0f} at the peak, "
            f"{peak['cutting_mib']:.0f} for cutting"
        )


def _growth(section: Results) -> Iterator[str]:
    for count, timing in section["by_candidates"].items():
        yield f"{count:>6} candidates{spread(timing)}"
    fit = section["fit"]
    yield (
        f"line: {fit['intercept_ms']:.1f} ms + {fit['microseconds_a_candidate']:.1f} µs a candidate, "
        f"R² {fit['r_squared']:.4f}"
    )


def _unchanged(section: Results) -> Iterator[str]:
    luna16 = section["luna16"]
    rows = {f"{count} series": timings for count, timings in section["by_series"].items()}
    rows[f"{luna16['num_series']} series, {luna16['num_rows']:,} rows"] = luna16
    yield f"{'':<28}{'by note ms':>10}{'min':>9}{'max':>9}{'by files':>10}{'min':>9}{'max':>9}"
    for name, timings in rows.items():
        yield f"{name:<28}{spread(timings['by_note'])}{spread(timings['by_files'])}"


def _startup(section: Results) -> Iterator[str]:
    if "note" in section:
        yield section["note"]
        return
    for name in ("interpreter", "help", "up_to_date"):
        yield f"{name:<28}{spread(section[name])}"
    tutorial = section["tutorial_import_seconds"]
    for name in ("help_seconds", "up_to_date_seconds"):
        yield f"{name:<28}{section[name]:>10.2f} beyond the interpreter; the tutorial's imports {tutorial}"


def _tables(section: Results) -> Iterator[str]:
    yield section["measured"]
    for name, times in section["times_book"].items():
        yield f"{name:<28}{spread(section[name])}{times:>10.1f} x the book"


def _pairs(section: Results) -> Iterator[str]:
    for name, value in section.items():
        yield f"{name}: {value if isinstance(value, bool) else format(value, ',')}"


def goal_lines(found: list[Results]) -> Iterator[str]:
    """Describe each goal, and whether it is met."""
    for goal in found:
        yield f"{'met   ' if goal['is_met'] else 'MISSED'}  {goal['goal']}: {goal['value']:g} ({goal['bound']})"


def spread(timing: Results) -> str:
    """Return median, minimum and maximum milliseconds in columns."""
    return f"{timing['median_ms']:>10.1f}{timing['min_ms']:>9.1f}{timing['max_ms']:>9.1f}"
