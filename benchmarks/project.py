"""Cutting with this project's public interface."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.data import Site
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.service import CtCutoutService
from luna_pipeline.core.cutouts.store import CutoutStore, SeriesCutouts


class ProjectCutter:
    """Cuts series into a separate folder; the cutouts are those of the tutorial (edge rule ``shift``).

    Args:
        site: Data root, catalogue and candidates.
        out: Folder of the cutouts.
        chunk_shape_irc: Voxels of a box.
        is_synced: Whether each file is flushed to the disk.
        candidates: Other candidates than the site's.
    """

    def __init__(
        self,
        site: Site,
        *,
        out: Path,
        chunk_shape_irc: tuple[int, int, int],
        is_synced: bool = False,
        candidates: pd.DataFrame | None = None,
    ) -> None:
        self._out = out
        self.store = CutoutStore(out, is_synced=is_synced)
        self.service = CtCutoutService(
            data_root=site.data_root,
            catalogue=site.catalogue,
            candidates=site.candidates if candidates is None else candidates,
            store=self.store,
            parameters=CuttingParameters(chunk_shape_irc, edge_rule="shift"),
        )

    def cut_series(self, uid: str) -> None:
        """Cut one series."""
        outcome = self.service.cut_series(uid)
        if outcome.outcome != "cut":
            msg = f"A timed series must be cut, got {outcome.outcome!r} (series {uid}). Remove its file first."
            raise RuntimeError(msg)

    def cut_many(self, uids: Sequence[str], *, workers: int = 1) -> None:
        """Cut several series in parallel."""
        summary = self.service.cut_many(uids, workers=workers)
        if summary.num_cut != len(uids):
            msg = f"All timed series must be cut, got {summary.num_cut} of {len(uids)} ({summary.failed})."
            raise RuntimeError(f"{msg} Remove their files first.")

    def read(self, uid: str) -> SeriesCutouts:
        """Return what was cut."""
        return self.store.read(uid)

    def remove(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self._out, ignore_errors=True)
