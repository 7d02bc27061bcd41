"""A pass over a data loader: reported at both ends, and closed whatever happens in between."""

import time
from collections.abc import Generator, Iterator
from typing import TypeVar

from torch.utils.data import DataLoader

from luna_pipeline.core.events.messages import BaseMessageHandler, LogBatchEnd, LogBatchStart, Mode
from luna_pipeline.core.models.base import BaseIteratorProvider

__all__ = ["BaseIteratorProvider", "BatchIteratorProvider"]

BatchT = TypeVar("BatchT")


class BatchIteratorProvider(BaseIteratorProvider):
    """Hands out the batches of a loader and reports the beginning and the end of the pass.

    Attributes:
        seconds_waiting: How long the loop waited for the loader in the last pass, or so far in this one.
    """

    def __init__(self, handler: BaseMessageHandler) -> None:
        """Report to ``handler``."""
        self.seconds_waiting = 0.0
        self._handler = handler

    def enumerate_batches(
        self, loader: DataLoader[BatchT], *, epoch: int, mode: Mode, first_batch: int = 0
    ) -> Generator[tuple[int, BatchT], None, None]:
        """Yield each batch with its number; closing it early ends the loader's workers.

        Args:
            loader: The batches that are still to come.
            epoch: The epoch, from 1.
            mode: Which part of the data the loader reads.
            first_batch: Number of the loader's first batch in the whole pass; the reports count the whole pass.
        """
        num_batches = first_batch + len(loader)
        self._handler.handle_message(LogBatchStart(epoch=epoch, mode=mode, num_batches=num_batches))
        started = time.perf_counter()
        self.seconds_waiting = 0.0
        # Before the first batch the workers start: that is waiting as well.
        batches = iter(loader)
        self.seconds_waiting += time.perf_counter() - started
        try:
            yield from enumerate(self._timed(batches), start=first_batch)
        finally:
            # Without this the workers live as long as a traceback that knows the loader.
            if (end_workers := getattr(batches, "_shutdown_workers", None)) is not None:
                end_workers()
        end = LogBatchEnd(
            epoch=epoch,
            mode=mode,
            num_batches=num_batches,
            seconds=time.perf_counter() - started,
            seconds_waiting=self.seconds_waiting,
        )
        self._handler.handle_message(end)

    def _timed(self, batches: Iterator[BatchT]) -> Iterator[BatchT]:
        while True:
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.seconds_waiting += time.perf_counter() - asked
            yield batch
