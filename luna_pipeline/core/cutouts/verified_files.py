"""Files whose bytes have been compared with their checksums, so that each is compared once."""

import contextlib
import hashlib
import os
from pathlib import Path

from luna_pipeline.core.storage.regular_files import open_regular

_MAX_NOTE_BYTES = 16 << 20


class VerifiedFiles:
    """Identities of verified files: device, inode, size, and times of the last changes.

    A file that was written or replaced has another identity and is compared again. Bytes that change on the disk
    without being written are found by ``verify_cutouts`` only.
    """

    def __init__(self, note: Path | None = None) -> None:
        """Store the argument; nothing is read.

        Args:
            note: File that keeps the identities for other processes and later runs, one digest a line; it may be
                removed at any time. None keeps them in this object only.
        """
        self._note = note
        self._known: set[str] | None = None

    def has(self, status: os.stat_result) -> bool:
        """Return whether the file with this status was verified."""
        return _identity(status) in self._identities()

    def add(self, status: os.stat_result) -> None:
        """Record a verified file; where the note cannot be written, for this object only."""
        identity = _identity(status)
        self._identities().add(identity)
        if self._note is None:
            return
        with contextlib.suppress(OSError):
            self._note.parent.mkdir(parents=True, exist_ok=True)
            # One short append: lines of several processes do not mix.
            with open(self._note, "a", encoding="ascii", opener=_open_without_waiting) as file:
                file.write(f"{identity}\n")

    def _identities(self) -> set[str]:
        if self._known is None:
            self._known = set() if self._note is None else _lines(self._note)
        return self._known


def _open_without_waiting(name: str, flags: int) -> int:
    # A FIFO of this name is an error then.
    return os.open(name, flags | os.O_NONBLOCK, 0o666)


def _identity(status: os.stat_result) -> str:
    # The time of the last change of the inode cannot be set: a tool that restores the other one is seen.
    numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(repr(numbers).encode()).hexdigest()[:32]


def _lines(note: Path) -> set[str]:
    try:
        with open_regular(note) as file:
            content = file.read(_MAX_NOTE_BYTES)
    except OSError:
        return set()
    return {line for line in content.decode(errors="replace").splitlines() if len(line) == 32}
