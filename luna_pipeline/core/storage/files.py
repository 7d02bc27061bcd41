"""Files that are either whole or not there, on a disk or in S3.

On a disk: write beside, fsync, rename. In S3: write a temporary file, then upload it at once.
"""

import contextlib
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, TypeAlias

from luna_pipeline.core.storage import s3
from luna_pipeline.core.storage.s3 import FileStatus

if TYPE_CHECKING:
    from upath import UPath

AnyPath: TypeAlias = "Path | UPath"
"""A path on a disk, or the address of objects in S3 (``s3.remote_path``)."""

TEMPORARY_SUFFIX = ".part"
_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,199}")


def is_name(text: str) -> bool:
    """Whether a text may name a file of ours: letters, digits, '.', '-', '_', and no dot in front."""
    return _NAME.fullmatch(text) is not None


def is_remote(path: AnyPath) -> bool:
    """Say whether a path is an address in S3, so that nobody can map it."""
    return not isinstance(path, Path)


@contextlib.contextmanager
def written_atomically(path: AnyPath, *, is_synced: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing; on success it takes the final name, on failure nothing stays.

    Args:
        path: Final name. Its folder is made where it is missing.
        is_synced: Whether to wait until the disk has it; without, a power cut (no killed process) may damage it.

    Yields:
        A binary file, open for reading and writing; beside ``path``, or in the temporary folder if that is remote.
    """
    if isinstance(path, Path):
        with _written_beside(path, is_synced=is_synced) as file:
            yield file
        return
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX) as temporary:
        yield temporary
        temporary.flush()
        s3.upload(Path(temporary.name), path)


@contextlib.contextmanager
def _written_beside(path: Path, *, is_synced: bool) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            # mkstemp makes files for one user; a produced file follows the umask like any other.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            if is_synced:
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    if is_synced:
        _fsync_folder(path.parent)


def write_bytes(path: AnyPath, content: bytes) -> None:
    """Write ``content`` under ``path``, whole or not at all."""
    with written_atomically(path) as file:
        file.write(content)


def read_bytes(path: AnyPath) -> bytes:
    """Return a file's content.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    return path.read_bytes() if isinstance(path, Path) else s3.read_whole(path)


def content_of(path: AnyPath) -> Path | io.BytesIO:
    """Return what readers of tables take: the path itself, or the content of an object."""
    return path if isinstance(path, Path) else io.BytesIO(read_bytes(path))


def opened(path: AnyPath) -> BinaryIO:
    """Open a file of which little will be read; an object is read in ranges, its end first.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    return path.open("rb") if isinstance(path, Path) else s3.open_in_ranges(path)


def exists(path: AnyPath) -> bool:
    """Say whether there is such a file; a server that does not answer is an error, not a no."""
    try:
        status_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def status_of(path: AnyPath) -> FileStatus:
    """Return size, version and time of a file without reading it.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    return _status(path.stat()) if isinstance(path, Path) else s3.status(path)


def listing(folder: AnyPath) -> dict[str, FileStatus]:
    """Return all files below a folder, by their names relative to it; none where there is no folder.

    Files whose names begin with a dot are left out: locks, and what is just being written.
    """
    if isinstance(folder, Path):
        found = {path.relative_to(folder).as_posix(): _status(status) for path, status in _files_below(folder)}
    else:
        found = s3.objects_below(folder)
    return {name: status for name, status in found.items() if not name.rpartition("/")[2].startswith(".")}


def make_new_folder(folder: AnyPath) -> None:
    """Make a folder; of several who make it at once one succeeds.

    Raises:
        FileExistsError: If it is there.
    """
    if isinstance(folder, Path):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    else:
        s3.make_folder(folder)


def remove_empty_folder(folder: AnyPath) -> None:
    """Remove a folder of ``make_new_folder``, unless there is something in it."""
    if isinstance(folder, Path):
        with contextlib.suppress(OSError):
            folder.rmdir()
    else:
        s3.remove_empty_folder(folder)


def subfolders(folder: AnyPath) -> list[str]:
    """Return the names of the folders in a folder, sorted; none where it is not there."""
    if isinstance(folder, Path):
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return sorted({name.partition("/")[0] for name in s3.objects_below(folder) if "/" in name})


def remove(path: AnyPath) -> None:
    """Remove a file, if it is there."""
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
    else:
        s3.delete(path)


def sweep_temporary_files(folder: AnyPath, *, older_than_seconds: float = 3600.0) -> list[Path]:
    """Remove what killed writers left beside the final names; in S3 there is no such thing.

    Args:
        folder: Folder whose own files are looked at (no sub-folders).
        older_than_seconds: Younger ones may belong to a running writer and stay.

    Returns:
        The removed files.
    """
    import time

    removed: list[Path] = []
    if not isinstance(folder, Path):
        return removed
    for path in sorted(folder.glob(f".*{TEMPORARY_SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= older_than_seconds:
                path.unlink()
                removed.append(path)
    return removed


def sha256_of(path: AnyPath) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    if not isinstance(path, Path):
        return hashlib.sha256(read_bytes(path)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(root: Path, *, by_content: str | None) -> str:
    """Return a digest of the files below a folder.

    Args:
        root: The folder.
        by_content: Suffix of the files at its top that count by content, so that touching them is no change. All
            others count by name, size and time, so that 120 GB of images need not be read at each look.
    """
    digest = hashlib.sha256()
    for path, status in _files_below(root):
        name = path.relative_to(root).as_posix()
        # Mode and owner count as well: a file that was shut may be open now.
        state = f"{status.st_size}\0{status.st_mtime_ns}\0{status.st_mode}\0{status.st_uid}"
        if path.suffix == by_content and path.parent == root:
            state = sha256_of(path)
        digest.update(f"{name}\0{state}\n".encode())
    return digest.hexdigest()


def folder_stat_digest(root: Path) -> str:
    """Return a digest of names, sizes and times alone: where it is unchanged nothing needs to be read."""
    return folder_digest(root, by_content=None)


def _status(status: os.stat_result) -> FileStatus:
    return FileStatus(status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}", status.st_mtime)


def folders_below(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk through the folders below ``root``, also through links, but into no folder twice.

    Yields:
        A folder, the names of its folders (which may be changed, to walk into fewer) and of its files, sorted.
    """
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield Path(folder), folders, sorted(names)


def _files_below(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder, _, names in folders_below(root):
        for name in names:
            path = folder / name
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
