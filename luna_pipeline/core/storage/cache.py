"""Local copies of files in S3, so that they can be mapped: filled once, whole, and never older than the object."""

import contextlib
import fcntl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from luna_pipeline.core.storage.files import AnyPath, status_of, written_atomically
from luna_pipeline.core.storage.s3 import RemoteStoreError, object_in_blocks

if TYPE_CHECKING:
    from upath import UPath

_LOCK = ".lock"


@dataclass(frozen=True)
class LocalCopies:
    """Copies below one folder, ``<folder>/<bucket>/<key>/<version>``; one version of an object at a time.

    Several processes may use the folder at once. It may be removed at any time, what is mapped stays readable.

    Attributes:
        folder: The folder; made when the first object is fetched.
    """

    folder: Path

    def of(self, path: AnyPath, *, version: str | None = None) -> Path:
        """Return a file of this machine with the content of ``path``; that is ``path`` itself where it is one.

        Args:
            path: The file or object.
            version: Its version as ``listing`` or ``status_of`` said it; where its copy is there, nothing is asked of
                the server. Without it the server is asked.

        Raises:
            FileNotFoundError: If there is no such object.
            OSError: If it cannot be fetched, or there is no room for it.
        """
        if isinstance(path, Path):
            return path
        folder = self.folder / path.path
        copy = folder / (version or status_of(path).version)
        return copy if copy.exists() else _fetched(path, folder)

    def opened(self, path: AnyPath, *, version: str | None = None) -> BinaryIO:
        """Open that file for reading and mapping; see ``of``."""
        try:
            return self.of(path, version=version).open("rb")
        except FileNotFoundError:
            # Another process may have put a newer version in the copy's place before it was opened.
            return self.of(path).open("rb")


def _fetched(path: "UPath", folder: Path) -> Path:
    """Return the copy of the object as it is now; of several processes one fetches it and the others wait."""
    with _locked(folder):
        status, blocks = object_in_blocks(path)
        copy = folder / status.version
        if not copy.exists():
            _fill(copy, blocks)
        # Older versions, and what killed processes left.
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


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process fills this folder; a killed one lets go by itself."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
