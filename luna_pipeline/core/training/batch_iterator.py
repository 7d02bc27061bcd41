"""A pass over a data loader: reported at both ends, and closed whatever happens in between."""

import time
from collections.abc import Generator
from typing import TypeVar

from torch.utils.data import DataLoader

from luna_pipeline.core.messages import BaseMessageHandler, LogBatchEnd, LogBatchStart, Mode
from luna_pipeline.core.models.base import BaseIteratorProvider

__all__ = ["BaseIteratorProvider", "BatchIteratorProvider"]

BatchT = TypeVar("BatchT")


class BatchIteratorProvider(BaseIteratorProvider):
    """Hands out the batches of a loader and reports the beginning and the end of the pass."""

    def __init__(self, handler: BaseMessageHandler) -> None:
        """Report to ``handler``."""
        self._handler = handler

    def enumerate_batches(
        self, loader: DataLoader[BatchT], *, epoch: int, mode: Mode
    ) -> Generator[tuple[int, BatchT], None, None]:
        """Yield each batch with its number, from 0; closing it early ends the loader's workers."""
        self._handler.handle_message(LogBatchStart(epoch=epoch, mode=mode, num_batches=len(loader)))
        started = time.perf_counter()
        batches = iter(loader)
        try:
            yield from enumerate(batches)
        finally:
            # Without this the workers live as long as a traceback that knows the loader.
            if (end_workers := getattr(batches, "_shutdown_workers", None)) is not None:
                end_workers()
        seconds = time.perf_counter() - started
        self._handler.handle_message(LogBatchEnd(epoch=epoch, mode=mode, num_batches=len(loader), seconds=seconds))
