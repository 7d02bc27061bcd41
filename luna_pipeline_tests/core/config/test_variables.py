"""The list of environment variables is that of the code."""

import re
from pathlib import Path

from luna_pipeline.core.config.variables import OF_STACK, VARIABLES

ROOT = Path(__file__).resolve().parents[3]
OF_SCRIPTS = ("deploy", "docker-compose.yml", "docker-compose.alerts.yml", "docker-compose.cuda.yml", "Dockerfile")
# Parts of names, and what scripts set and read within themselves.
NO_VARIABLES = {"LUNA_A", "LUNA_B", "LUNA_DAGSTER", "LUNA_TEST", "LUNA_FUZZ", "LUNA_QQQQQQ"}


def names_in(*places: str) -> set[str]:
    roots = [ROOT / place for place in places]
    files = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
    texts = [
        path.read_text(errors="replace") for path in files if path.is_file() and path.suffix not in {".so", ".pyc"}
    ]
    return set(re.findall(r"\bLUNA_[A-Z_]*[A-Z]\b", "\n".join(texts))) - NO_VARIABLES


def test_every_variable_of_the_package_has_its_meaning_and_no_other():
    in_package = {name for name in names_in("luna_pipeline") if not name.startswith(("LUNA_TEST_", "LUNA_FUZZ_"))}
    assert in_package == set(VARIABLES) | set(OF_STACK)


def test_every_variable_of_the_stack_and_its_scripts_is_known():
    assert names_in(*OF_SCRIPTS) - set(VARIABLES) <= set(OF_STACK)
    assert names_in(*OF_SCRIPTS, ".env.example", "docs", "luna_pipeline_tests", "Makefile") >= set(OF_STACK)
