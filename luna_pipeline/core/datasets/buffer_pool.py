"""Memory of batches, used again and again: claiming new pages takes as long as filling them."""

import math
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray


class BufferPool:
    """Hands out tensors whose memory comes back when nobody can reach it any more, and not before.

    Whatever keeps the values alive (a view, an array made of the tensor, a graph that needs them for its gradients)
    keeps its memory out of the next batch.
    """

    def __init__(self, max_free: int = 2) -> None:
        """Keep at most ``max_free`` buffers that nobody uses."""
        self._free: deque[NDArray[np.float32]] = deque(maxlen=max_free)

    def empty(self, shape: Sequence[int]) -> torch.Tensor:
        """Return a float32 tensor of this shape whose values are still to be written."""
        count = math.prod(shape)
        buffer = self._claim(count)
        values = buffer[:count]
        # The tensor's storage holds this view of the buffer, and all that is made of the tensor holds the storage.
        weakref.finalize(values, self._free.append, buffer).atexit = False
        return torch.from_numpy(values).reshape(tuple(shape))

    def _claim(self, count: int) -> NDArray[np.float32]:
        try:
            buffer = self._free.pop()
        except IndexError:
            return np.empty(count, dtype=np.float32)
        return buffer if len(buffer) >= count else np.empty(count, dtype=np.float32)
