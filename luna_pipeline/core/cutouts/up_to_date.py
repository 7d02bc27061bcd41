"""A marker file that lets ``luna create_cutouts`` end at once if nothing has changed since the last run.

If it is missing or anything differs, the files themselves are compared. Only the standard library is imported: a
command that has nothing to do ends before NumPy would be loaded.
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
from luna_pipeline.core.storage.regular_files import NotRegularFileError

FORMAT_VERSION = 1
# Name of the file in homes of earlier versions too.
_NAME = ".receipt.json"


@dataclass(frozen=True)
class UpToDateMarker:
    """Records names, sizes and times of all inputs and outputs of a complete run.

    Attributes:
        data_root: Folder of the CTs and tables.
        cutouts: Folder of the cutout files and of the marker.
        tables: Tables made from the data root.
        request: Parameters, sample and code versions, as JSON values.
    """

    data_root: Path
    cutouts: AnyPath
    tables: Sequence[AnyPath]
    request: Mapping[str, Any]

    def stat_digest(self) -> str:
        """Return the digest of the data root; take it before the work, so that an edit during the work is noticed."""
        return folder_stat_digest(self.data_root)

    def files(self) -> dict[str, str]:
        """Return the versions of the cutout files; take them before the files are checked."""
        return {name: status.version for name, status in listing(self.cutouts).items()}

    def write(self, stat_digest: str, files: Mapping[str, str]) -> None:
        """Write the marker for a data root of this ``stat_digest`` and these cutout files."""
        write_bytes(self._path, json.dumps(self._state(stat_digest, files)).encode())

    def discard(self) -> None:
        """Remove the marker: work begins, or something failed."""
        remove(self._path)

    def holds(self) -> bool:
        """Return whether inputs, tables, cutouts and request are those in the marker."""
        try:
            recorded = json.loads(read_bytes(self._path))
        # Whatever stands in its place: the marker only saves time.
        except (FileNotFoundError, NotADirectoryError, NotRegularFileError, ValueError, RecursionError):
            return False
        return bool(recorded == self._state(self.stat_digest(), self.files()))

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
