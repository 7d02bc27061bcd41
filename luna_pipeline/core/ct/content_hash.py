"""The content of a CT's files as one number: who copies, moves or touches a CT does not change it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from luna_pipeline.core.ct.file_maps import mapped_file

NO_CONTENT = "0" * 32
"""Stands where a fingerprint will stand; as long as one."""


def looks_of(files: Iterable[Path]) -> list[tuple[str, int, int, int]]:
    """Return names, inodes, sizes and times of files, sorted.

    What was read between two equal looks is one CT: a file that is replaced has another inode.
    """
    found = ((path.name, path.stat()) for path in files)
    return sorted((name, status.st_ino, status.st_size, status.st_mtime_ns) for name, status in found)


def content_fingerprint(files: Sequence[Path]) -> str:
    """Return the xxh3_128 of each file's length and bytes, the files sorted by name.

    Neither folder nor time counts, and names only give the order. The files are mapped, not read into memory, and
    Python's lock is released while they are hashed.

    Args:
        files: All files of a CT, in any order (``Ct.files``).

    Returns:
        32 hexadecimal digits.

    Raises:
        OSError: If a file cannot be read.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    for path in sorted(files, key=lambda path: (path.name, path)):
        # An empty file cannot be mapped.
        content = mapped_file(path) if path.stat().st_size else b""
        # The length tells ("ab", "c") from ("a", "bc").
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()
