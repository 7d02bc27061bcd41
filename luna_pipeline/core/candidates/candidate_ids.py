"""Names of candidates that outlive any change of other rows."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def candidate_ids(rows: Iterable[tuple[str, str, str, str, str]]) -> NDArray[np.int64]:
    """Name rows by what they say.

    Args:
        rows: (uid, source, x, y, z) a row, the coordinates as written in the file. Equal rows are told apart by their
            order.

    Returns:
        Shape (N,): the first 8 bytes, as a little-endian signed number, of BLAKE2b over "uid|source|x|y|z|ordinal",
        where the ordinal counts equal rows from 0.
    """
    seen: dict[str, int] = {}
    digests = bytearray()
    for row in rows:
        text = "|".join(row)
        ordinal = seen.get(text, 0)
        seen[text] = ordinal + 1
        digests += hashlib.blake2b(f"{text}|{ordinal}".encode()).digest()[:8]
    return np.frombuffer(bytes(digests), dtype="<i8").astype(np.int64)
