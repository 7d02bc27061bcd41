"""A note that everything was as it should be, so that the next look compares stat digests only at the files' times.

It is no truth of its own: where it is missing or anything differs, the files themselves are asked. It needs nothing but
the standard library: a command that has nothing to do ends before numpy would have been loaded.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luna_pipeline.core.storage.files import (
    AnyPath,
    folder_stat_digest,
    listing,
    read_bytes,
    remove,
    status_of,
    write_bytes,
)

FORMAT_VERSION = 1
_NAME = ".receipt.json"


@dataclass(frozen=True)
class UpToDateMarker:
    """What cutouts are made of and what they are, as seen from outside.

    Attributes:
        data_root: Folder of the CTs and tables.
        cutouts: Folder of the cutouts; the note lies there.
        tables: Files of the tables that were made of the data root.
        request: What was asked for (parameters, sample, code version), as JSON knows it.
    """

    data_root: Path
    cutouts: AnyPath
    tables: Sequence[AnyPath]
    request: Mapping[str, Any]

    def stat_digest(self) -> str:
        """Return how the data root looks now; taken before work begins, an edit meanwhile is seen at the next look."""
        return folder_stat_digest(self.data_root)

    def files(self) -> dict[str, str]:
        """Return the versions of the files of cutouts, to be taken before they are found to be right."""
        return {name: status.version for name, status in listing(self.cutouts).items()}

    def write(self, stat_digest: str, files: Mapping[str, str]) -> None:
        """Note that all is right: a data root that looked like ``stat_digest``, and these files of cutouts."""
        write_bytes(self._path, json.dumps(self._state(stat_digest, files)).encode())

    def discard(self) -> None:
        """Forget it: work begins, or something failed."""
        remove(self._path)

    def holds(self) -> bool:
        """Whether inputs, tables, cutouts and request are those of the note."""
        try:
            noted = json.loads(read_bytes(self._path))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return False
        return bool(noted == self._state(self.stat_digest(), self.files()))

    @property
    def _path(self) -> AnyPath:
        return self.cutouts / _NAME

    def _state(self, stat_digest: str, files: Mapping[str, str]) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "stat_digest": stat_digest,
            "request": json.loads(json.dumps(self.request)),
            "tables": {path.name: _version(path) for path in self.tables},
            "cutouts": dict(files),
        }


def _version(path: AnyPath) -> str | None:
    try:
        return status_of(path).version
    except (FileNotFoundError, NotADirectoryError):
        return None
