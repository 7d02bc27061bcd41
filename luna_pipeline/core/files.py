"""Files that are either whole or not there: write beside, fsync, rename."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

TEMPORARY_SUFFIX = ".part"


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` for writing; on success it takes the final name, on failure nothing stays.

    Args:
        path: Final name. Its folder is made where it is missing.

    Yields:
        A binary file, open for reading and writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            # mkstemp makes files for one user; a produced file follows the umask like any other.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _fsync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` under ``path``, whole or not at all."""
    with written_atomically(path) as file:
        file.write(content)


def sweep_temporary_files(folder: Path, *, older_than_seconds: float = 3600.0) -> list[Path]:
    """Remove what killed writers left beside the final names.

    Args:
        folder: Folder whose own files are looked at (no sub-folders).
        older_than_seconds: Younger ones may belong to a running writer and stay.

    Returns:
        The removed files.
    """
    import time

    removed = []
    for path in sorted(folder.glob(f".*{TEMPORARY_SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= older_than_seconds:
                path.unlink()
                removed.append(path)
    return removed


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(root: Path, *, by_content: str) -> str:
    """Return a digest of the files below a folder.

    Args:
        root: The folder.
        by_content: Suffix of the files at its top that count by content, so that touching them is no change. All
            others count by name, size and time, so that 120 GB of images need not be read at each look.
    """
    digest = hashlib.sha256()
    for path, status in _files_below(root):
        name = path.relative_to(root).as_posix()
        if path.suffix == by_content and path.parent == root:
            digest.update(f"{name}\0{sha256_of(path)}\n".encode())
        else:
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def folder_glance(root: Path) -> str:
    """Return a digest of names, sizes and times alone: where it is unchanged nothing needs to be read."""
    return folder_digest(root, by_content="")


def _files_below(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            # A file may vanish between listing and looking; it is then as good as not listed.
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
