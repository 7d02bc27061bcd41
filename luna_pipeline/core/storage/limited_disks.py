"""Disks without hard links, modes, locks or folders that can be flushed: exFAT and some network disks.

Each function does with such a disk's means what it does elsewhere, with the same guarantee.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_log = logging.getLogger(__name__)

# What file systems answer to a request that they do not know; EPERM is Linux's answer to links and modes on FAT.
_UNSUPPORTED = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK, errno.ENOTTY}


def is_unsupported(error: OSError) -> bool:
    """Return whether an error means that the file system lacks a feature."""
    return error.errno in _UNSUPPORTED


@contextlib.contextmanager
def unsupported_ignored() -> Iterator[None]:
    """Ignore the error of a feature that the file system lacks; any other error is raised."""
    try:
        yield
    except OSError as error:
        if not is_unsupported(error):
            raise


def place_new(temporary: Path, path: Path) -> None:
    """Give a complete file its final name, in the same folder; of several processes one succeeds.

    Args:
        temporary: The file; whether it still exists afterwards depends on the disk.
        path: Its final path.

    Raises:
        FileExistsError: If ``path`` exists.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        if not is_unsupported(error):
            raise
        # Renaming replaces an existing file, so one process at a time looks and renames.
        with locked(path.with_name(f".{path.name}.lock"), waits=True):
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            os.replace(temporary, path)


@contextlib.contextmanager
def locked(path: Path, *, waits: bool) -> Iterator[None]:
    """Hold the lock of a file, which is created with its folder; the lock of a killed process is released.

    On a disk without locks a file in this machine's temporary folder is locked instead, which excludes only the other
    processes of this machine.

    Args:
        path: The file to lock.
        waits: Whether to wait for another process that holds the lock.

    Raises:
        BlockingIOError: If another process holds the lock, and ``waits`` is False.
    """
    mode = fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as files:
        try:
            fcntl.flock(files.enter_context(path.open("w")), mode)
        except OSError as error:
            if isinstance(error, BlockingIOError) or not is_unsupported(error):
                raise
            replacement = _local_lock(path)
            _log.info("The disk of %s has no locks: %s is locked instead, on this machine only.", path, replacement)
            fcntl.flock(files.enter_context(replacement.open("w")), mode)
        yield


def _local_lock(path: Path) -> Path:
    folder = Path(tempfile.gettempdir()) / f"luna-locks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()}.lock"
