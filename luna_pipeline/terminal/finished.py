"""Remembers a finished plan, so that a repeated call with nothing to do ends at once."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luna_pipeline.core.storage.files import folder_stat_digest, listing
from luna_pipeline.settings import REPOSITORY, Settings

FORMAT_VERSION = 1
_CODE = ("luna_pipeline/**/*.py", "luna_pipeline/**/*.c", "config/*.yaml", "dagster.yaml", "requirements.lock")
_FOLDERS = ("tables", "cutouts", "checkpoints")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a finished plan depended on, and what it showed.

    Attributes:
        request: Digest of commands and configuration files.
        code: Digest of the project's code.
        data: Digest of names, sizes and times below the data root.
        files: Sizes of tables, cutouts and checkpoints in bytes; of tables -1, because other jobs write them too.
        history: Folder of Dagster's runs.
        seconds: Duration.
        finished_at: Time of the end, local, to the minute.
        shown: Lines of the results.
    """

    request: str
    code: str
    data: str
    files: dict[str, int]
    history: str
    seconds: float
    finished_at: str
    shown: list[str]

    def difference(self, now: "Finished") -> str:
        """Return what differs from the present state, in words; empty if nothing does."""
        differences = {"settings": (self.request, now.request), "code": (self.code, now.code)}
        differences["data"] = (self.data, now.data)
        for name, (then, today) in differences.items():
            if then != today:
                return f"other {name}"
        gone = [name for name, size in self.files.items() if now.files.get(name) != size]
        if gone:
            return f"{gone[0]} is gone or of another size" + (f", and {len(gone) - 1} more" if len(gone) > 1 else "")
        return "" if self.history == now.history and _has_runs(self.history) else "another history of Dagster"


def present_state(settings: Settings, commands: Sequence[Sequence[str]], history: str) -> Finished:
    """Return the present state, without results.

    Args:
        settings: Paths of the installation.
        commands: The commands of the plan.
        history: Value of DAGSTER_HOME.
    """
    return Finished(
        request=_digest_of_commands(commands),
        code=_digest_of_files(sorted(path for pattern in _CODE for path in REPOSITORY.glob(pattern))),
        data=folder_stat_digest(settings.data_dir) if settings.data_dir.is_dir() else "",
        files=_files(settings),
        history=history,
        seconds=0.0,
        finished_at="",
        shown=[],
    )


def read(path: Path) -> Finished | None:
    """Return the state in a file; None if there is none, or one of another version."""
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        return Finished(**values) if values.pop("format_version") == FORMAT_VERSION else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write(path: Path, state: Finished) -> None:
    """Write a state into a file."""
    path.write_text(json.dumps({"format_version": FORMAT_VERSION, **asdict(state)}, indent=1))


def _files(settings: Settings) -> dict[str, int]:
    found = {}
    for folder in _FOLDERS:
        for name, status in listing(settings.home / folder).items():
            if not name.rpartition("/")[2].startswith("."):
                found[f"{folder}/{name}"] = -1 if folder == "tables" else status.num_bytes
    return found


def _has_runs(history: str) -> bool:
    return bool(history) and (Path(history) / "history").is_dir()


def _digest_of_commands(commands: Sequence[Sequence[str]]) -> str:
    configs = [word for command in commands for word in command if word.endswith((".yaml", ".yml"))]
    return hashlib.sha256(repr([*map(list, commands), _digest_of_files(map(Path, configs))]).encode()).hexdigest()


def _digest_of_files(paths: Any) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
