"""Memory maps of whole files that keep no file open, shared by all users of the same file.

A map of Python's ``mmap`` keeps a file descriptor (before Python 3.13 always), and 1,024 of them are a usual limit.
"""

import ctypes
import errno
import mmap
import os
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from luna_pipeline.core.storage.regular_files import open_regular

_ADDRESSES: set[int] = set()
_MAPS: "weakref.WeakValueDictionary[tuple[int, ...], Any]" = weakref.WeakValueDictionary()


class MapLimitError(OSError):
    """More files are mapped than the operating system allows."""


def mapped_file(path: Path) -> memoryview:
    """Map a file for reading; nothing is read yet.

    While a map of a file is in use, the same one is returned: pages that were touched need not be mapped again, which
    for a CT takes as long as reading it. The file must not be shortened meanwhile.

    Raises:
        OSError: If the file cannot be read, or too many files are mapped (MapLimitError).
        ValueError: If it is empty.
    """
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        found = _MAPS.get(key)
        if found is None:
            found = _MAPS[key] = _mapped(file.fileno(), status.st_size, path)
    return _bytes_of(found)


def map_open_file(descriptor: int, name: object) -> memoryview:
    """Map an open file, which may be closed afterwards; ``name`` is the file's in messages. See ``mapped_file``."""
    return _bytes_of(_mapped(descriptor, os.fstat(descriptor).st_size, name))


def advise_random_access(array: object) -> None:
    """Disable the operating system's read-ahead for the file that an array views; other arrays are left alone."""
    found = map_of(array)
    if found is not None and hasattr(mmap, "MADV_RANDOM"):
        _libc().madvise(ctypes.addressof(found), len(found), mmap.MADV_RANDOM)


def map_of(values: Any) -> Any:
    """Return the map that an array or its content is a view of, None for memory of another kind."""
    while values is not None and not isinstance(values, ctypes.Array):
        values = values.obj if isinstance(values, memoryview) else getattr(values, "base", None)
    return values


@cache
def _limit() -> int:
    """Return how many files this process may map: half of the system's limit, the rest is for libraries and memory."""
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text(encoding="ascii")) // 2
    except (OSError, ValueError):
        return 1 << 31


def _mapped(descriptor: int, num_bytes: int, name: object) -> Any:
    """Return a map as an array of bytes, which unmaps the file with its last user."""
    if not num_bytes:
        msg = f"A file must have content to be mapped, got an empty one ({name}). Copy it again."
        raise ValueError(msg)
    address = _new_map(num_bytes, descriptor) if len(_ADDRESSES) < _limit() else errno.ENOMEM
    if address < mmap.PAGESIZE:
        msg = f"A file must be mapped within the limit of {_limit()} maps, got {os.strerror(address)} after "
        msg += f"{len(_ADDRESSES)} maps ({name}). Raise vm.max_map_count, or take part of the series."
        raise MapLimitError(address, msg) if address == errno.ENOMEM else OSError(address, msg)
    mapped = (ctypes.c_ubyte * num_bytes).from_address(address)
    _ADDRESSES.add(address)
    # At the end of the process other threads may still read.
    weakref.finalize(mapped, _unmap, address, num_bytes).atexit = False
    return mapped


def _new_map(num_bytes: int, descriptor: int) -> int:
    """Return the address of a new map, or the number of the error."""
    address = _libc().mmap(None, num_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    return ctypes.get_errno() if address == ctypes.c_void_p(-1).value else int(address)


def _bytes_of(mapped: Any) -> memoryview:
    content: Any = np.frombuffer(mapped, dtype=np.uint8)
    # The pages are read-only: writing to them would end the process.
    content.flags.writeable = False
    return memoryview(content)


def _unmap(address: int, num_bytes: int) -> None:
    # First: another thread may get the same address at once.
    _ADDRESSES.discard(address)
    _libc().munmap(address, num_bytes)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc
