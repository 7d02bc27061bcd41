"""Stores that do to the workers of Ray what happens to workers; in a module of its own, which they import."""

import os
import signal
import time

from luna_pipeline.core.cutouts.store import CutoutStore

LIMIT_SECONDS = 60


class WaitingStore(CutoutStore):
    """A store that notes who writes, waits for a file ``go``, and notes who was interrupted while he waited."""

    def write(self, series_instance_uid, cutouts, **options):
        try:
            (self.root / f"writes-{os.getpid()}").touch()
            deadline = time.monotonic() + LIMIT_SECONDS
            while not (self.root / "go").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        except KeyboardInterrupt:
            (self.root / f"interrupted-{os.getpid()}").touch()
            raise
        return super().write(series_instance_uid, cutouts, **options)


class KillerStore(CutoutStore):
    """A store whose writer is killed, as the system does when memory is short; it notes who that was."""

    def write(self, series_instance_uid, cutouts, **options):
        (self.root / f"killed-{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)


class OtherDiskStore(CutoutStore):
    """A store that writes where only the machine of the worker looks."""

    def write(self, series_instance_uid, cutouts, **options):
        return CutoutStore(self.root / "of-the-worker").write(series_instance_uid, cutouts, **options)


class FaultyStore(CutoutStore):
    """A store with a fault in its code."""

    def write(self, series_instance_uid, cutouts, **options):
        raise KeyError("a fault")


class CountingStore(CutoutStore):
    """A store that notes how many write at once."""

    def write(self, series_instance_uid, cutouts, **options):
        note = self.root / f"at-once-{os.getpid()}"
        note.touch()
        time.sleep(0.1)
        (self.root / f"counted-{len(list(self.root.glob('at-once-*')))}").touch()
        note.unlink()
        return super().write(series_instance_uid, cutouts, **options)
