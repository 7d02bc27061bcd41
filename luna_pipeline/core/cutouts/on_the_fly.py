"""Cutouts without a store: cut from the mapped CTs whenever they are asked for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.formats.metaimage import read_metaimage_header
from luna_pipeline.core.cutouts.job import SeriesJob
from luna_pipeline.core.cutouts.service import CtCutoutService
from luna_pipeline.core.cutouts.store import SeriesCutouts


class UncutSeries:
    """Stands where a ``CutoutStore`` stands: the same chunks, and not a byte on the disk.

    CTs must be raw MetaImages: those are mapped, so that only the voxels asked for are read. A packed CT would have to
    be unpacked whole for each chunk, or all of them kept in memory.
    """

    def __init__(self, service: CtCutoutService, uids: Iterable[str]) -> None:
        """Take what is needed of each series; no CT is read.

        Args:
            service: Catalogue, candidates and parameters.
            uids: The series.

        Raises:
            ValueError: If a CT cannot be mapped.
        """
        self._jobs: Mapping[str, SeriesJob] = {uid: _mappable(service.job(uid)) for uid in uids}

    def read(self, series_instance_uid: str) -> SeriesCutouts:
        """Return the cutouts of a series, its CT mapped.

        Raises:
            KeyError: If it is not one of the series that were named.
            UnreadableCtError: If its CT cannot be read.
        """
        return self._jobs[series_instance_uid].cutouts()

    def identity(self, series_instance_uid: str) -> tuple[NDArray[np.int64], str]:
        """Return the candidates of a series, int64 (N,) in the order of the rows, and its fingerprint's digest."""
        job = self._jobs[series_instance_uid]
        return job.candidate_id, job.wanted.digest


def _mappable(job: SeriesJob) -> SeriesJob:
    if not is_mappable(job.path):
        msg = (
            f"A CT that is cut on the fly must be a raw MetaImage (.mhd and .raw, int16), got {job.path.name} "
            f"(series {job.series_instance_uid}). Convert it, or cut it into a store."
        )
        raise ValueError(msg)
    return job


def is_mappable(path: Path) -> bool:
    """Whether the voxels of a CT can be mapped as they are."""
    if path.suffix.lower() not in {".mhd", ".mha"}:
        return False
    header = read_metaimage_header(path)
    return not header.is_compressed and np.dtype(header.dtype) == np.dtype("<i2")
