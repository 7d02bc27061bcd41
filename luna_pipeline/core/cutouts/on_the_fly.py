"""Cutouts without a store: chunks are cut from the memory-mapped CTs when they are read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.catalogue_rows import file_fingerprint
from luna_pipeline.core.ct.content_hash import content_fingerprint
from luna_pipeline.core.ct.formats.metaimage import MetaImageReader
from luna_pipeline.core.ct.reading import open_ct
from luna_pipeline.core.cutouts.job import SeriesJob
from luna_pipeline.core.cutouts.service import CtCutoutService
from luna_pipeline.core.cutouts.store import CutoutStore, DamagedCutoutsError, SeriesCutouts


class UncutSeries:
    """Replaces a ``CutoutStore`` for reading: same rows, same chunks, same fingerprints.

    CTs must be raw MetaImages (int16), which are mapped: only the voxels of a chunk are read. The content digest of
    each CT is part of its fingerprint. Where no cutting has computed it, the CT is hashed once and the digest is
    recorded in the store's folder.

    Attributes:
        origin: Folder of the CTs.
    """

    def __init__(self, service: CtCutoutService) -> None:
        """Store the arguments; no CT is read.

        Args:
            service: Catalogue, candidates and parameters.
        """
        self._service: CtCutoutService | None = service
        self.origin = str(service.data_root)
        self._jobs: dict[str, SeriesJob] = {}

    def read(self, series_instance_uid: str) -> SeriesCutouts:
        """Return the cutouts of a series, its CT mapped.

        Raises:
            UnreadableCtError: If its CT cannot be read or is not in the catalogue.
            ValueError: If the CT cannot be mapped, was changed since it was catalogued, or a candidate lies outside.
        """
        return self._job(series_instance_uid).cutouts()

    def header(self, series_instance_uid: str) -> dict[str, Any]:
        """Return the header that a file of this series would have."""
        return self.read(series_instance_uid).header

    def identity(self, series_instance_uid: str) -> tuple[NDArray[np.int64], str]:
        """Return the candidates of a series, int64 (N,) in the order of the rows, and its fingerprint's digest."""
        job = self._job(series_instance_uid)
        return job.candidate_id, job.wanted.digest

    def __getstate__(self) -> dict[str, Any]:
        """Leave the tables out: a data loader's worker needs only the series that the data set has opened."""
        return {**self.__dict__, "_service": None}

    def _job(self, uid: str) -> SeriesJob:
        if uid not in self._jobs:
            if self._service is None:
                msg = f"A series must be opened before the source is sent to another process, got {uid}."
                raise ValueError(f"{msg} Build the data set first.")
            self._jobs[uid] = _checked(self._service.job(uid), self._service.data_root)
        return self._jobs[uid]


def _checked(job: SeriesJob, data_root: Path) -> SeriesJob:
    """Return a job whose fingerprint has the CT's content and whose chunks can be cut."""
    uid = job.series_instance_uid
    if not is_mappable(job.path):
        msg = (
            f"A CT that is cut on the fly must be a raw MetaImage (.mhd and .raw, int16), got {job.path.name} "
            f"(series {uid}). Convert it, or cut it into a store."
        )
        raise ValueError(msg)
    content = _recorded_content(job.store, job)
    known = replace(job.wanted, ct_content=content or content_fingerprint(_files(job)))
    # After hashing: a CT that was replaced meanwhile has other times.
    if file_fingerprint(job.path, data_root) != job.wanted.ct:
        msg = (
            f"A CT that is cut on the fly must be as catalogued, got a changed {job.path.name} (series {uid}). "
            "Run `luna create_cutouts --index-only`, or materialize `ct_series` and `cutout_index`."
        )
        raise ValueError(msg)
    if content is None:
        job.store.record_ct_content(uid, known)
    job = replace(job, wanted=known)
    chunks = job.cutouts().ct_chunks
    if len(chunks):
        # The edge rule may reject a thin CT, which shows only when a chunk is cut.
        _ = chunks[0]
    return job


def _files(job: SeriesJob) -> tuple[Path, ...]:
    return open_ct(job.path, series_instance_uid=job.series_instance_uid).files()


def _recorded_content(store: CutoutStore, job: SeriesJob) -> str | None:
    """Return the content digest of a CT that looks as it did when it was last hashed, None if it was not hashed."""
    if found := store.kept_ct_content(job.series_instance_uid, job.wanted.ct):
        return found
    try:
        recorded = store.header(job.series_instance_uid)["fingerprints"]
    except (FileNotFoundError, DamagedCutoutsError):
        return None
    return (recorded.get("ct_content") or None) if recorded.get("ct") == job.wanted.ct else None


def is_mappable(path: Path) -> bool:
    """Return whether the voxels of a CT can be mapped as they are."""
    if path.suffix.lower() not in {".mhd", ".mha"}:
        return False
    return MetaImageReader(path, path.stem).header.is_mappable
