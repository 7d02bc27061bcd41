"""Series that arrive instance by instance, on the disk: complete ones become folders to be submitted.

An instance is on the disk before it is answered. Nothing but the files is needed after a restart: series that were
arriving are complete once they have been quiet, and complete ones that were not submitted are submitted then.
"""

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from luna_pipeline.core.storage.files import TEMPORARY_SUFFIX, write_bytes
from luna_pipeline.core.storage.limited_disks import is_unsupported, unsupported_ignored
from luna_pipeline.serving.config import UploadLimits
from luna_pipeline.serving.dicom.instance import Instance
from luna_pipeline.serving.folders import INPUT, ServiceFolders

COUNTED_QUIET_SECONDS = 2.0
"""Quiet time of a series with the number of instances that its headers state."""
HELD_SECONDS = 3600.0
"""Time for which a series with refused instances waits for them; then it is removed."""


class SeriesLimitError(Exception):
    """A series exceeds a limit, or there are too many series; the message is one line."""


class Sender(Protocol):
    """The association of an instance."""

    @property
    def is_established(self) -> bool:
        """Whether it may send further instances."""


@dataclass
class _Arriving:
    """What has arrived of a series since its folder was made."""

    names: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    senders: set[Sender] = field(default_factory=set)
    acquisitions: set[str] = field(default_factory=set)
    num_expected: int | None = None
    num_bytes: int = 0
    num_voxels: int = 0
    num_writing: int = 0
    is_too_large: bool = False
    last: float = 0.0

    def is_whole(self, now: float, quiet_seconds: float) -> bool:
        """Return whether nothing more is to be expected."""
        quiet = now - self.last
        if self.num_writing or self.is_too_large or self.refused - self.names:
            return False
        if self.num_expected and len(self.acquisitions) < 2 and len(self.names) >= self.num_expected:
            return quiet >= min(COUNTED_QUIET_SECONDS, quiet_seconds)
        return quiet >= quiet_seconds and not any(sender.is_established for sender in self.senders)

    def is_given_up(self, now: float, quiet_seconds: float) -> bool:
        """Return whether it is to be removed: it can no longer become whole."""
        return not self.num_writing and now - self.last >= (quiet_seconds if self.is_too_large else HELD_SECONDS)


class SeriesStore:
    """Arriving and complete series below ``ServiceFolders.receiving``; one process at a time, thread-safe.

    Args:
        folders: Folders of the service.
        limits: Limits of one series.
        quiet_seconds: See ``ReceiverConfig``.
        max_series: Series that arrive or wait to be submitted at a time.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        folders: ServiceFolders,
        limits: UploadLimits,
        *,
        quiet_seconds: float,
        max_series: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arriving_dir, self._complete_dir = folders.receiving / "arriving", folders.receiving / "complete"
        self._folders = folders
        self._limits, self._quiet_seconds, self._max_series, self._clock = limits, quiet_seconds, max_series, clock
        self._lock = threading.Lock()
        for folder in (self._arriving_dir, self._complete_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self._arriving = {folder.name: self._found(folder) for folder in self._arriving_dir.iterdir()}

    def add(self, instance: Instance, encoded: bytes, sender: Sender) -> None:
        """Write an instance; it is on the disk when this returns. The same instance again replaces the first.

        Raises:
            SeriesLimitError: If a limit is exceeded; the series is removed once it is quiet.
            OSError: If it cannot be written; its series then waits for it.
        """
        state = self._begin(instance, len(encoded), sender)
        folder = self._arriving_dir / instance.series
        try:
            self._folders.check_free(self._limits.min_free_bytes)
            if not folder.is_dir():
                folder.mkdir(exist_ok=True)
                _flush_folder(self._arriving_dir)
            write_bytes(folder / instance.name, encoded)
        except OSError:
            with self._lock:
                state.refused.add(instance.name)
            raise
        finally:
            with self._lock:
                state.num_writing -= 1
                state.last = self._clock()
        with self._lock:
            state.names.add(instance.name)

    def is_known(self, series: str) -> bool:
        """Return whether a series is arriving."""
        with self._lock:
            return series in self._arriving

    def take_whole(self) -> None:
        """Make the series that are whole complete, and remove those that can no longer become whole."""
        now = self._clock()
        with self._lock:
            for series, state in list(self._arriving.items()):
                folder = self._arriving_dir / series
                if state.is_whole(now, self._quiet_seconds) and state.names:
                    os.rename(folder, self._complete_dir / f"{series}-{secrets.token_hex(8)}")
                elif state.is_given_up(now, self._quiet_seconds) or state.is_whole(now, self._quiet_seconds):
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    continue
                del self._arriving[series]

    def complete(self) -> Iterator[Path]:
        """Yield the folder of each complete series, flushed, with the instances that an earlier job had of it.

        A series of which late instances arrive is thereby a new job as a whole.
        """
        for folder in sorted(self._complete_dir.iterdir(), key=lambda path: path.stat().st_mtime):
            self._add_earlier(folder)
            for flushed in (folder, self._complete_dir, self._arriving_dir):
                _flush_folder(flushed)
            yield folder

    def _begin(self, instance: Instance, num_bytes: int, sender: Sender) -> _Arriving:
        with self._lock:
            state = self._arriving.get(instance.series)
            if state is None:
                if len(self._arriving) + len(os.listdir(self._complete_dir)) >= self._max_series:
                    message = f"At most {self._max_series} series may arrive at a time, got another. Send it later."
                    raise SeriesLimitError(message)
                state = self._arriving[instance.series] = _Arriving()
            state.last = self._clock()
            state.senders = {sender, *(other for other in state.senders if other.is_established)}
            if instance.name not in state.names:
                state.num_bytes += num_bytes
                state.num_voxels += instance.num_voxels
            self._check(state, instance)
            state.acquisitions.add(instance.acquisition)
            state.num_expected = instance.num_expected or state.num_expected
            state.num_writing += 1
            return state

    def _check(self, state: _Arriving, instance: Instance) -> None:
        limits = self._limits
        num_files = len(state.names | {instance.name}) + state.num_writing
        sizes = (num_files, limits.max_files, "files"), (state.num_bytes, limits.max_bytes, "bytes")
        for number, most, what in (*sizes, (state.num_voxels, limits.max_voxels, "voxels")):
            if number > most:
                state.is_too_large = True
                raise SeriesLimitError(f"A series must have at most {most} {what}, got more. Send a smaller one.")

    def _found(self, folder: Path) -> _Arriving:
        """Return the state of a series that another process received."""
        for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
            path.unlink()
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        return _Arriving(names=set(sizes), num_bytes=sum(sizes.values()), last=self._clock())

    def _add_earlier(self, folder: Path) -> None:
        """Link the instances of the newest job of the same series into a folder, where it lacks them."""
        series = folder.name.partition("-")[0]
        inputs = [path for path in self._folders.jobs.glob(f"*/{INPUT}") if _series_of(path) == series]
        # A job may be deleted meanwhile.
        with contextlib.suppress(FileNotFoundError):
            for earlier in sorted(inputs, key=lambda path: path.stat().st_mtime)[-1:]:
                _link_missing(earlier, folder, names=os.listdir(earlier))


def _series_of(folder: Path) -> str:
    """Return the digest of the series whose received instances a folder holds, empty for other files."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        name = next(entries, None)
        return name.name.partition("-")[0] if name is not None else ""
    return ""


def _link_missing(source: Path, target: Path, *, names: Collection[str]) -> None:
    for name in set(names) - set(os.listdir(target)):
        try:
            os.link(source / name, target / name)
        except OSError as error:
            if not is_unsupported(error):
                raise
            write_bytes(target / name, (source / name).read_bytes())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with unsupported_ignored():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
