"""Series that arrive instance by instance, on the disk: complete ones become folders to be submitted.

An instance is on the disk before it is answered. Nothing but the files is needed after a restart: series that were
arriving are complete once they have been quiet, and complete ones that were not submitted are submitted then.
"""

import contextlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from luna_pipeline.core.storage.files import TEMPORARY_SUFFIX, fsync_folder, write_bytes
from luna_pipeline.core.storage.limited_disks import is_unsupported
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.dicom.instance import Instance
from luna_pipeline.serving.dicom.series_state import Sender, SeriesState
from luna_pipeline.serving.folders import INPUT, ServiceFolders, is_job_id

_MAX_FORGETTABLE = 100
"""Series without files of which refusals are remembered; those beyond, the oldest first, have no association left."""

_log = logging.getLogger(__name__)


class SeriesLimitError(Exception):
    """A series exceeds a limit, or there are too many series; the message is one line."""


class SeriesStore:
    """Arriving and complete series below ``ServiceFolders.receiving``; one process at a time, thread-safe.

    Args:
        folders: Folders of the service.
        config: Limits of a series, its quiet times, and as ``max_queued`` the number of series that arrive or wait to
            be submitted at a time.
        check_room: Called before the first instance of a series is accepted; what it raises refuses the instance.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        folders: ServiceFolders,
        config: ServiceConfig,
        *,
        check_room: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arriving_dir, self._complete_dir = folders.receiving / "arriving", folders.receiving / "complete"
        self._folders, self._config, self._check_room, self._clock = folders, config, check_room, clock
        self._lock = threading.Lock()
        for folder in (self._arriving_dir, self._complete_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self._arriving = {folder.name: self._found(folder) for folder in self._arriving_dir.iterdir()}

    def add(self, instance: Instance, encoded: bytes, sender: Sender) -> None:
        """Write an instance; it is on the disk when this returns. The same instance again replaces the first.

        Whatever is raised, the series then waits for this instance.

        Raises:
            SeriesLimitError: If a limit is exceeded; the series is removed once it is quiet.
            OSError: If it cannot be written.
        """
        try:
            if not self._has_files(instance.series):
                self._check_room()
            self._write(self._begin(instance, len(encoded), sender), instance, encoded)
        except Exception:
            self._refuse(instance)
            raise

    def take_whole(self) -> None:
        """Make the series that are whole complete, and remove those that can no longer become whole.

        Raises:
            OSError: If a series cannot be moved; it waits, and the others are moved.
        """
        now, failure = self._clock(), None
        with self._lock:
            for series, state in list(self._arriving.items()):
                try:
                    self._look_at(series, state, now)
                except OSError as error:
                    failure = error
        if failure is not None:
            raise failure

    def complete(self) -> list[Path]:
        """Return the folder of each complete series, the oldest first."""
        return sorted(self._complete_dir.iterdir(), key=lambda path: path.stat().st_mtime)

    def prepare(self, folder: Path) -> None:
        """Add the instances that an earlier job had of a complete series, and flush it.

        A series of which late instances arrive is thereby a new job as a whole.

        Raises:
            OSError: If the disk is full.
        """
        self._add_earlier(folder)
        for flushed in (folder, self._complete_dir, self._arriving_dir):
            fsync_folder(flushed)

    def _look_at(self, series: str, state: SeriesState, now: float) -> None:
        folder, is_whole = self._arriving_dir / series, state.is_whole(now, self._config.receiver)
        if is_whole:
            os.rename(folder, self._complete_dir / f"{series}-{secrets.token_hex(8)}")
        elif state.is_lost(now, self._config.receiver):
            reason = "It exceeds a limit" if state.is_too_large else "Others of it were refused and not sent again"
            _log.warning("A series is removed, with %d instances. %s.", len(state.names), reason)
            shutil.rmtree(folder, ignore_errors=True)
            state.names.clear()
        if is_whole or state.is_forgotten(now):
            self._forget(series)

    def _forget(self, series: str) -> None:
        del self._arriving[series]
        # A folder whose first instance could not be written.
        with contextlib.suppress(OSError):
            os.rmdir(self._arriving_dir / series)

    def _has_files(self, series: str) -> bool:
        with self._lock:
            return series in self._arriving and self._arriving[series].has_files

    def _begin(self, instance: Instance, num_bytes: int, sender: Sender) -> SeriesState:
        with self._lock:
            state = self._arriving.get(instance.series) or SeriesState()
            if not state.has_files:
                num_series = sum(other.has_files for other in self._arriving.values())
                if num_series + len(os.listdir(self._complete_dir)) >= self._config.max_queued:
                    message = f"At most {self._config.max_queued} series may arrive at a time, got another."
                    raise SeriesLimitError(f"{message} Send it later.")
            self._arriving[instance.series] = state
            self._check(state, instance, num_bytes)
            state.add_sender(sender)
            state.acquisitions.add(instance.acquisition)
            state.num_expected = instance.num_expected or state.num_expected
            state.num_writing += 1
            return state

    def _check(self, state: SeriesState, instance: Instance, num_bytes: int) -> None:
        """Count an instance."""
        limits, is_new = self._config.limits, instance.name not in state.names
        if is_new:
            state.num_bytes += num_bytes
            state.num_voxels += instance.num_voxels
        num_files = len(state.names) + is_new + state.num_writing
        sizes = (num_files, limits.max_files, "files"), (state.num_bytes, limits.max_bytes, "bytes")
        for number, most, what in (*sizes, (state.num_voxels, limits.max_voxels, "voxels")):
            if number > most or state.is_too_large:
                state.is_too_large = True
                raise SeriesLimitError(f"A series must have at most {most} {what}, got more. Send a smaller one.")

    def _write(self, state: SeriesState, instance: Instance, encoded: bytes) -> None:
        folder, is_written = self._arriving_dir / instance.series, False
        try:
            self._folders.check_free(self._config.limits.min_free_bytes)
            if not folder.is_dir():
                folder.mkdir(exist_ok=True)
                fsync_folder(self._arriving_dir)
            write_bytes(folder / instance.name, encoded)
            is_written = True
        finally:
            with self._lock:
                state.num_writing -= 1
                state.last = self._clock()
                if is_written:
                    state.names.add(instance.name)
                elif instance.name not in state.names:
                    state.num_bytes -= len(encoded)
                    state.num_voxels -= instance.num_voxels

    def _refuse(self, instance: Instance) -> None:
        """Remember a refused instance: without it its series is not whole."""
        with self._lock:
            state = self._arriving.setdefault(instance.series, SeriesState())
            state.refused.add(instance.name)
            state.is_too_large |= len(state.refused) > self._config.limits.max_files
            state.last = self._clock()
            without_files = [series for series, other in self._arriving.items() if not other.has_files]
            if len(without_files) > _MAX_FORGETTABLE:
                self._forget(min(without_files, key=lambda series: self._arriving[series].last))

    def _found(self, folder: Path) -> SeriesState:
        """Return the state of a series that another process received."""
        for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
            path.unlink()
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        return SeriesState(names=set(sizes), num_bytes=sum(sizes.values()), last=self._clock())

    def _add_earlier(self, folder: Path) -> None:
        """Link the instances of the newest job of the same series into a folder, where it lacks them."""
        series = folder.name.partition("-")[0]
        # Folders of jobs that are being deleted have other names.
        inputs = [path for path in self._folders.jobs.glob(f"*/{INPUT}") if is_job_id(path.parent.name)]
        inputs = [path for path in inputs if _series_of(path) == series]
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
