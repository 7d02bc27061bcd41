"""Local copies of objects in S3, which can be memory-mapped; always of the object's current version."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from luna_pipeline.core.storage.files import AnyPath, status_of, written_atomically
from luna_pipeline.core.storage.limited_disks import locked
from luna_pipeline.core.storage.regular_files import open_regular
from luna_pipeline.core.storage.s3 import RemoteStoreError, object_in_blocks

if TYPE_CHECKING:
    from upath import UPath

_LOCK = ".lock"


@dataclass(frozen=True)
class LocalCopies:
    """Copies ``<folder>/<bucket>/<key>/<version>``, one version of an object at a time.

    Several processes may use the folder at once. It may be removed at any time: mapped files stay readable.

    Attributes:
        folder: The folder; created with the first copy.
    """

    folder: Path

    def of(self, path: AnyPath, *, version: str | None = None) -> Path:
        """Return a local file with the content of ``path``, which may be local itself.

        Args:
            path: The file or object.
            version: Its version from ``listing`` or ``status_of``: no request is sent if its copy exists. None
                requests the version from the server.

        Raises:
            FileNotFoundError: If there is no such object.
            OSError: If it cannot be fetched, or the disk is full.
        """
        if isinstance(path, Path):
            return path
        folder = self.folder / path.path
        copy = folder / (version or status_of(path).version)
        return copy if copy.exists() else _fetched(path, folder)

    def opened(self, path: AnyPath, *, version: str | None = None) -> BinaryIO:
        """Open that file for reading and mapping; see ``of``."""
        try:
            return open_regular(self.of(path, version=version))
        except FileNotFoundError:
            # Another process may have replaced the copy by a newer version before it was opened.
            return open_regular(self.of(path))


def _fetched(path: "UPath", folder: Path) -> Path:
    """Return a copy of the current object; one process fetches it while others wait."""
    with locked(folder / _LOCK, waits=True):
        status, blocks = object_in_blocks(path)
        copy = folder / status.version
        if not copy.exists():
            _fill(copy, blocks)
        # Older versions and temporary files of killed processes.
        for other in folder.iterdir():
            if other.is_file() and other.name not in {copy.name, _LOCK}:
                other.unlink()
    return copy


def _fill(copy: Path, blocks: Iterable[bytes]) -> None:
    try:
        with written_atomically(copy) as file:
            file.writelines(blocks)
    except RemoteStoreError:
        raise
    except OSError as error:
        msg = f"A copy must fit on the disk, got {error.strerror} ({copy}). Make room or set LUNA_CACHE."
        raise OSError(error.errno, msg) from error
