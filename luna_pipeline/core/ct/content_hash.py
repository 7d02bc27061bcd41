"""Fingerprint of the content of a CT's files: copying, moving or touching a CT does not change it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from luna_pipeline.core.ct.file_maps import mapped_file

NO_CONTENT = "0" * 32
"""Placeholder of a fingerprint, of the same length."""


def file_states(files: Iterable[Path]) -> list[tuple[str, int, int, int]]:
    """Return names, inodes, sizes and times of files, sorted: equal before and after reading files that stay the same.

    A file that is replaced has another inode.
    """
    found = ((path.name, path.stat()) for path in files)
    return sorted((name, status.st_ino, status.st_size, status.st_mtime_ns) for name, status in found)


def content_fingerprint(files: Sequence[Path]) -> str:
    """Return the xxh3_128 of each file's length and bytes, the files sorted by name.

    Folder and time do not matter, names only give the order. The files are mapped, not read into memory, and the GIL
    is released while they are hashed.

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
        # The length distinguishes ("ab", "c") from ("a", "bc").
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()
