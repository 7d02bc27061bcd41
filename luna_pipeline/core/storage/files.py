"""Files that are written atomically, on a disk or in S3.

On a disk: write a temporary file next to the final one, fsync, rename. In S3: upload a temporary file in one request.
"""

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, TypeAlias

from luna_pipeline.core.storage import s3
from luna_pipeline.core.storage.limited_disks import unsupported_ignored
from luna_pipeline.core.storage.regular_files import open_regular
from luna_pipeline.core.storage.s3 import FileStatus

if TYPE_CHECKING:
    from upath import UPath

AnyPath: TypeAlias = "Path | UPath"
"""A path on a disk, or the address of objects in S3 (``s3.remote_path``)."""

TEMPORARY_SUFFIX = ".part"
# Errors of a write, to which Python gives no path: a full disk, quota, length limit, a broken or read-only disk.
_WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,199}")


def is_name(text: str) -> bool:
    """Return whether a text is a valid file name: letters, digits, '.', '-', '_', no leading dot."""
    return _NAME.fullmatch(text) is not None


def is_remote(path: AnyPath) -> bool:
    """Return whether a path is an address in S3, which cannot be memory-mapped."""
    return not isinstance(path, Path)


@contextlib.contextmanager
def written_atomically(path: AnyPath, *, is_synced: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing; on success it gets the final name, on failure it is removed.

    Args:
        path: Final path. Its folder is created if it is missing.
        is_synced: Whether to flush it to the disk; without, a power cut (not a killed process) may damage it.

    Yields:
        A binary file, open for reading and writing.

    Raises:
        OSError: If it cannot be written; a full disk is ``ENOSPC`` with the path.
    """
    if isinstance(path, Path):
        with _write_errors_named(path), _written_locally(path, is_synced=is_synced) as file:
            yield file
        return
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX) as temporary:
        with _write_errors_named(Path(temporary.name)):
            yield temporary
            temporary.flush()
        s3.upload(Path(temporary.name), path)


@contextlib.contextmanager
def _write_errors_named(path: Path) -> Iterator[None]:
    """Add the path to an error of a write that has none."""
    try:
        yield
    except OSError as error:
        if error.errno not in _WRITE_ERRORS or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def _written_locally(path: Path, *, is_synced: bool) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            # mkstemp gives access to one user only; the final file follows the umask.
            with unsupported_ignored():
                os.fchmod(file.fileno(), 0o666 & ~_umask())
            if is_synced:
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    if is_synced:
        fsync_folder(path.parent)


def write_bytes(path: AnyPath, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with written_atomically(path) as file:
        file.write(content)


def read_bytes(path: AnyPath) -> bytes:
    """Return a file's content.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it is a FIFO, a device, a socket or a folder.
    """
    if not isinstance(path, Path):
        return s3.read_whole(path)
    with open_regular(path) as file:
        return file.read()


def content_of(path: AnyPath) -> Path | io.BytesIO:
    """Return the input for a table reader: the path of a regular file, or the content of an object in S3."""
    if not isinstance(path, Path):
        return io.BytesIO(read_bytes(path))
    open_regular(path).close()
    return path


def opened(path: AnyPath) -> BinaryIO:
    """Open a file for reading small parts; of an object only ranges are fetched, its end first.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it is a FIFO, a device, a socket or a folder.
    """
    return open_regular(path) if isinstance(path, Path) else s3.open_in_ranges(path)


def exists(path: AnyPath) -> bool:
    """Return whether a file exists; a server that does not respond is an error."""
    if isinstance(path, Path):
        # False for links that lead nowhere, too.
        return path.exists()
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
    """Return all regular files below a folder by their relative names; none if there is no folder.

    Names with a leading dot are left out: locks and temporary files.
    """
    if isinstance(folder, Path):
        regular = ((path, status) for path, status in _files_below(folder) if stat.S_ISREG(status.st_mode))
        found = {path.relative_to(folder).as_posix(): _status(status) for path, status in regular}
    else:
        found = s3.objects_below(folder)
    return {name: status for name, status in found.items() if not name.rpartition("/")[2].startswith(".")}


def make_new_folder(folder: AnyPath) -> None:
    """Create a folder; of several processes that create it at once, one succeeds.

    Raises:
        FileExistsError: If it exists.
    """
    if isinstance(folder, Path):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    else:
        s3.make_folder(folder)


def remove_empty_folder(folder: AnyPath) -> None:
    """Remove a folder of ``make_new_folder`` if it is empty."""
    if isinstance(folder, Path):
        with contextlib.suppress(OSError):
            folder.rmdir()
    else:
        s3.remove_empty_folder(folder)


def subfolders(folder: AnyPath) -> list[str]:
    """Return the names of the folders in a folder, sorted; none if it does not exist."""
    if isinstance(folder, Path):
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return sorted({name.partition("/")[0] for name in s3.objects_below(folder) if "/" in name})


def remove(path: AnyPath) -> None:
    """Remove a file if it exists."""
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
    else:
        s3.delete(path)


def sweep_temporary_files(folder: AnyPath, *, older_than_seconds: float = 3600.0) -> list[Path]:
    """Remove and return temporary files of killed writers; S3 has none.

    Args:
        folder: The folder; its sub-folders are not searched.
        older_than_seconds: Younger files may belong to a running writer and are kept.
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
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(root: Path, *, by_content: str | None) -> str:
    """Return a digest of the files below a folder.

    Args:
        root: The folder.
        by_content: Suffix of files directly in it whose content is hashed, so that touching them changes nothing. All
            other files are represented by name, size and time, so that 120 GB of images need not be read.
    """
    digest = hashlib.sha256()
    for path, status in _files_below(root):
        name = path.relative_to(root).as_posix()
        # Mode and owner are included: an unreadable file may be readable now.
        state = f"{status.st_size}\0{status.st_mtime_ns}\0{status.st_mode}\0{status.st_uid}"
        if path.suffix == by_content and path.parent == root and stat.S_ISREG(status.st_mode):
            state = sha256_of(path)
        # fsencode: a name may be no UTF-8.
        digest.update(os.fsencode(f"{name}\0{state}\n"))
    return digest.hexdigest()


def folder_stat_digest(root: Path) -> str:
    """Return a digest of names, sizes and times only: if it is equal, no file needs to be read."""
    return folder_digest(root, by_content=None)


def _status(status: os.stat_result) -> FileStatus:
    return FileStatus(status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}", status.st_mtime)


def folders_below(
    root: Path, *, on_error: Callable[[Path, OSError], object] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk through the folders below ``root``, following links, each folder once, at any depth.

    Args:
        root: The folder to start with.
        on_error: Called with each folder that cannot be listed, and why; None to skip it.

    Yields:
        A folder, the names of its folders (modify the list to skip some) and of everything else in it, sorted.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    # A stack of its own: Python's ends at a thousand folders.
    while waiting:
        folder = waiting.pop()
        try:
            _refuse_way_up(folder, root)
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            folders, names = _entries(folder)
        except OSError as error:
            if on_error is not None:
                on_error(folder, error)
            continue
        seen.add((status.st_dev, status.st_ino))
        yield folder, folders, names
        waiting += [folder / name for name in reversed(folders)]


def _refuse_way_up(folder: Path, root: Path) -> None:
    """Refuse a link to a folder that holds the root: below it lies the rest of the disk.

    Raises:
        OSError: If it is one.
    """
    if folder != root and folder.is_symlink() and folder.resolve() in root.resolve().parents:
        raise OSError(errno.ELOOP, "a link to a folder above")


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders, and of all else, in a folder, sorted."""
    folders: list[str] = []
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            (folders if _is_folder(entry) else names).append(entry.name)
    return sorted(folders), sorted(names)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    # A link that leads to itself.
    except OSError:
        return False


def _files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for found, _, names in folders_below(folder):
        for name in names:
            path = found / name
            try:
                status = path.stat()
            except FileNotFoundError:
                # Removed since it was listed, or a dangling link.
                continue
            except OSError as error:
                # A loop of links, or a link to a path that is too long or not to be seen, cannot be a file.
                if error.errno not in {errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EACCES, errno.EPERM}:
                    raise
                continue
            yield path, status


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def fsync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with unsupported_ignored():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
