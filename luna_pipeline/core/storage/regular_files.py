"""Opening of files that were found by name: only regular ones, since opening a FIFO or a device may never return."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

SECRET_FOLDER = "luna25_nodule_blocks"
"""LUNA25's folder of nodule blocks, whose files are named after patients: messages do not show these names."""

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a regular file",
}


class NotRegularFileError(OSError):
    """A path that was found by its name is no regular file."""


def is_regular(path: Path) -> bool:
    """Return whether a path is a regular file, or a link to one; False where this cannot be found out."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    # ValueError: a name with a NUL byte.
    except (OSError, ValueError):
        return False


def kind_of(path: Path) -> str:
    """Return the kind of a path in words, for messages, such as "a FIFO" or "a dangling link"."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "an unknown kind of file")
    except (OSError, ValueError) as error:
        if path.is_symlink():
            return "a dangling link" if isinstance(error, FileNotFoundError) else "a link that leads nowhere"
        return "no such file"


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, without waiting for the other end of a FIFO.

    Raises:
        NotRegularFileError: If it is a folder, FIFO, socket or device.
        OSError: If it cannot be opened.
    """
    # Looked at before it is opened: opening alone can have effects on a device.
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(path) from error
        raise
    if not stat.S_ISREG(mode):
        raise _refused(path)
    # By an opener: the file keeps its name, which messages state.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    # Looked at again: it may have been replaced in between.
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _refused(path)
    return file


def _refused(path: Path) -> NotRegularFileError:
    rule = f"Only regular files are opened, got {kind_of(path)} ({shown_name(path)})."
    return NotRegularFileError(f"{rule} Take it out of the folder.")


def shown_name(path: Path, *, limit: int = 120) -> str:
    """Return a file's name for a message of one line: printable, and shortened in its middle."""
    if path.parts[-3:-2] == (SECRET_FOLDER,):
        return f"a file of {SECRET_FOLDER}/{path.parts[-2]}"
    name = path.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    name = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name)
    return name if len(name) <= limit else f"{name[: limit // 2]}...{name[-limit // 2 :]}"
