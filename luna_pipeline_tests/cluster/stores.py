"""Stores that delay, kill or mislead Ray's workers; in a module that the workers can import."""

import os
import signal
import time

from luna_pipeline.core.cutouts.store import CutoutStore

LIMIT_SECONDS = 60


class WaitingStore(CutoutStore):
    """Records each writing process, waits for a file ``go``, and records interrupted processes."""

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
    """Records each writing process and kills it, as the system does when memory is short."""

    def write(self, series_instance_uid, cutouts, **options):
        (self.root / f"killed-{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)


class OtherDiskStore(CutoutStore):
    """Writes to a folder that only the worker's machine has."""

    def write(self, series_instance_uid, cutouts, **options):
        return CutoutStore(self.root / "of-the-worker").write(series_instance_uid, cutouts, **options)


class FaultyStore(CutoutStore):
    """Raises an error of the code."""

    def write(self, series_instance_uid, cutouts, **options):
        raise KeyError("a fault")


class CountingStore(CutoutStore):
    """Records how many processes write at once."""

    def write(self, series_instance_uid, cutouts, **options):
        note = self.root / f"at-once-{os.getpid()}"
        note.touch()
        time.sleep(0.1)
        (self.root / f"counted-{len(list(self.root.glob('at-once-*')))}").touch()
        note.unlink()
        return super().write(series_instance_uid, cutouts, **options)
