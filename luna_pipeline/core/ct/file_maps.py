"""Maps of whole files, shared by all who look at the same file at the same time."""

import mmap
import os
from pathlib import Path
from weakref import WeakValueDictionary

_MAPS: WeakValueDictionary[tuple[int, ...], mmap.mmap] = WeakValueDictionary()


def mapped_file(path: Path) -> mmap.mmap:
    """Map a file that is not empty, for reading; nothing is read yet.

    While somebody holds the map of a file, others get the same: pages that one has touched need not be found again by
    the next, which for a CT takes as long as reading it. The file must not be shortened meanwhile.

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
