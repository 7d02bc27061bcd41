"""A pass over a data loader, reported at both ends; the loader's workers are always stopped."""

import time
from collections.abc import Generator, Iterator
from typing import TypeVar

from torch.utils.data import DataLoader

from luna_pipeline.core.events.messages import BaseMessageHandler, LogBatchEnd, LogBatchStart, Mode

BatchT = TypeVar("BatchT")


class BatchIteratorProvider:
    """Iterates over a loader and reports the start and the end of the pass.

    Attributes:
        seconds_waiting: Seconds that the last or current pass has waited for the loader.
    """

    def __init__(self, handler: BaseMessageHandler) -> None:
        """Report to ``handler``."""
        self.seconds_waiting = 0.0
        self._handler = handler

    def enumerate_batches(
        self, loader: DataLoader[BatchT], *, epoch: int, mode: Mode, first_batch: int = 0
    ) -> Generator[tuple[int, BatchT], None, None]:
        """Yield each batch with its number; closing the generator early stops the loader's workers.

        Args:
            loader: The remaining batches.
            epoch: The epoch, from 1.
            mode: The part of the data that the loader reads.
            first_batch: Number of the loader's first batch in the whole pass; the reports count the whole pass.
        """
        num_batches = first_batch + len(loader)
        self._handler.handle_message(LogBatchStart(epoch=epoch, mode=mode, num_batches=num_batches))
        started = time.perf_counter()
        # Starting the workers counts as waiting.
        batches = iter(loader)
        self.seconds_waiting = time.perf_counter() - started
        try:
            yield from enumerate(self._timed(batches), start=first_batch)
        finally:
            # Otherwise the workers live as long as a traceback that references the loader.
            if (stop_workers := getattr(batches, "_shutdown_workers", None)) is not None:
                stop_workers()
            # They ignore SIGTERM: one that hangs would keep this process from ending.
            for worker in getattr(batches, "_workers", ()):
                if worker.is_alive():
                    worker.kill()
        seconds = {"seconds": time.perf_counter() - started, "seconds_waiting": self.seconds_waiting}
        self._handler.handle_message(LogBatchEnd(epoch=epoch, mode=mode, num_batches=num_batches, **seconds))

    def _timed(self, batches: Iterator[BatchT]) -> Iterator[BatchT]:
        while True:
            started = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.seconds_waiting += time.perf_counter() - started
            yield batch
