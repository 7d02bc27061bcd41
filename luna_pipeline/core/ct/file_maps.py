"""Memory maps of whole files, shared by all users of the same file."""

import mmap
import os
from pathlib import Path
from weakref import WeakValueDictionary

_MAPS: WeakValueDictionary[tuple[int, ...], mmap.mmap] = WeakValueDictionary()


def mapped_file(path: Path) -> mmap.mmap:
    """Map a file for reading; nothing is read yet.

    While a map of a file is in use, the same one is returned: pages that were touched need not be mapped again, which
    for a CT takes as long as reading it. The file must not be shortened meanwhile.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is empty.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        found = _MAPS.get(key)
        if found is None:
            found = _MAPS[key] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return found
