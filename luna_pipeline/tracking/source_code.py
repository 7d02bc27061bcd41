"""Which code made an MLflow run: the command, and the commit of the repository."""

import functools
import subprocess
import sys
from pathlib import Path

from luna_pipeline.settings import REPOSITORY

SOURCE_NAME = "mlflow.source.name"
SECONDS_TO_ANSWER = 5
_CHANGED = "-dirty"


def source_tags(name: str = "") -> dict[str, str]:
    """Return MLflow's tags of a run's source.

    Args:
        name: What made the run; by default the command of this process without its options.
    """
    return {SOURCE_NAME: name or _command(), "mlflow.source.type": "LOCAL", **commit_tags(REPOSITORY)}


@functools.cache
def commit_tags(repository: Path) -> dict[str, str]:
    """Return MLflow's tags of a repository's commit, and whether files differ from it; empty without git.

    An installed package has no repository. A repository around its folder is another project's.
    """
    if not (repository / ".git").exists():
        return {}
    command = [
        "git",
        "-C",
        str(repository),
        "describe",
        "--always",
        "--abbrev=40",
        "--exclude=*",
        f"--dirty={_CHANGED}",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    commit, _, rest = answer.strip().partition("-")
    return {"mlflow.source.git.commit": commit, "mlflow.source.git.dirty": str(bool(rest)).lower()}


def _command() -> str:
    program, *arguments = sys.argv or [""]
    # `luna train_…`: the first word says what was run; options may hold paths.
    name = "python" if program in {"", "-c"} else Path(program).name
    return " ".join([name, *(word for word in arguments[:1] if word.isidentifier())])
