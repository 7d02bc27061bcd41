"""Environment variables that are set but are none of the project's."""

import difflib
from collections.abc import Iterator, Mapping

from luna_pipeline.core.config.variables import OF_STACK, VARIABLES
from luna_pipeline.launchers.doctor.findings import Finding

_OF_TESTS = ("LUNA_TEST_", "LUNA_FUZZ_")


def variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Report each variable that begins with LUNA_ and is none of the project's: it has no effect."""
    known = [*VARIABLES, *OF_STACK]
    names = [name for name in environment if name.startswith("LUNA_") and not name.startswith(_OF_TESTS)]
    unknown = [name for name in names if name not in known]
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        fix = f"Did you mean {near[0]}? `unset {name}`." if near else f"unset {name}"
        yield Finding(name, "problem" if near else "note", "no variable of luna_pipeline, so it has no effect", fix)
    shown = ", ".join(sorted(set(names) - set(unknown))) or "none set, so the defaults hold"
    yield Finding("Variables", "ok", shown)
