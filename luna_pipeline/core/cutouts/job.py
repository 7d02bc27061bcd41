"""Cutting one series: a job that is small enough to be sent to another process."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.content_hash import NO_CONTENT
from luna_pipeline.core.ct.errors import UnreadableCtError, failure_of
from luna_pipeline.core.ct.plausible_hu import check_plausible_hu
from luna_pipeline.core.ct.reading import Ct, CtReader, open_ct
from luna_pipeline.core.cutouts.chunks import CtChunks
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.fingerprint import Fingerprint
from luna_pipeline.core.cutouts.store import CutoutStore, SeriesCutouts, build_header
from luna_pipeline.core.storage.s3 import RemoteStoreError

State = Literal["missing", "damaged", "changed", "touched", "current"]


@dataclass(frozen=True)
class CutOutcome:
    """Result of one series; ``fingerprint`` is the digest of the file, ``current`` a file that was up to date."""

    series_instance_uid: str
    outcome: Literal["cut", "current"]
    num_candidates: int
    num_bytes: int
    seconds: float
    fingerprint: str


class FileState(NamedTuple):
    """State of the file of a series.

    Attributes:
        state: ``touched`` means that the times of the CT's files differ; its content may be the same.
        why: What differs, or how the file is damaged.
        digest: Fingerprint in the file's header; empty if there is none.
    """

    state: State
    why: str = ""
    digest: str = ""


def compare_file(store: CutoutStore, series_instance_uid: str, wanted: Fingerprint) -> FileState:
    """Compare the file of a series with the fingerprint that it should have; no CT and no chunk is read."""
    try:
        recorded = store.header(series_instance_uid)["fingerprints"]
        digest, differences = str(recorded["digest"]), wanted.differences(recorded)
    except FileNotFoundError:
        return FileState("missing")
    except RemoteStoreError:
        raise
    except Exception as error:
        # A file that cannot be read is cut again.
        return FileState("damaged", failure_of(error, series_instance_uid))
    if not differences:
        return FileState("current", digest=digest)
    content = recorded.get("ct_content")
    if differences != ["ct"] or not content:
        return FileState("changed", ", ".join(differences), digest)
    if store.kept_ct_content(series_instance_uid, wanted.ct) == content:
        return FileState("current", digest=digest)
    return FileState("touched", "ct", digest)


@dataclass(frozen=True, eq=False)
class SeriesJob:
    """Cuts one series.

    Attributes:
        series_instance_uid: The series.
        path: Its file or DICOM folder.
        candidate_id: int64 (N,).
        center_xyz: World mm of the candidates, float64 (N, 3).
        parameters: Cutting parameters.
        wanted: Fingerprint of the current CT, candidates, parameters and code, without the CT's content.
        store: Store of the file.
    """

    series_instance_uid: str
    path: Path
    candidate_id: NDArray[np.int64]
    center_xyz: NDArray[np.float64]
    parameters: CuttingParameters
    wanted: Fingerprint
    store: CutoutStore

    def run(self) -> CutOutcome:
        """Cut the series, unless its file is up to date.

        Raises:
            UnreadableCtError: If the CT cannot be read.
            ValueError: If a candidate lies outside the CT, or the CT is too thin for the edge rule.
            OSError: If the disk is full or read-only.
        """
        started = time.perf_counter()
        found = compare_file(self.store, self.series_instance_uid, self.wanted)
        is_current = found.state == "current" or (found.state == "touched" and self._holds_the_same_ct())
        if is_current:
            num_bytes, digest = self.store.num_bytes(self.series_instance_uid), found.digest
        else:
            num_bytes, digest = self._cut()
        return CutOutcome(
            series_instance_uid=self.series_instance_uid,
            outcome="current" if is_current else "cut",
            num_candidates=len(self.candidate_id),
            num_bytes=num_bytes,
            seconds=time.perf_counter() - started,
            fingerprint=digest,
        )

    def cutouts(self) -> SeriesCutouts:
        """Return the cutouts, cut on demand, with the fingerprint ``wanted``.

        Raises:
            UnreadableCtError: If the CT cannot be read.
            ValueError: If a candidate lies outside the CT, or the CT is too thin for the edge rule.
        """
        return self._cutouts_of(self._read(self._reader()), self.wanted)

    def _cut(self) -> tuple[int, str]:
        """Write the file; return its size and the digest of its fingerprint."""
        reader = self._reader()
        before, ct = reader.file_states(), self._read(reader)
        cutouts = self._cutouts_of(ct, replace(self.wanted, ct_content=NO_CONTENT))
        # The CT is hashed while its chunks are cut and written: the header with the hash is written last.
        with ThreadPoolExecutor(1) as pool:
            content = pool.submit(reader.content_fingerprint)

            def final_header() -> dict[str, Any]:
                known = replace(self.wanted, ct_content=content.result())
                self._check_not_replaced(reader, before)
                return self._header(ct, known)

            num_bytes = self.store.write(self.series_instance_uid, cutouts, final_header=final_header)
        return num_bytes, replace(self.wanted, ct_content=content.result()).digest

    def _read(self, reader: CtReader) -> Ct:
        """Read the CT; numbers that cannot be HU are refused: a mask is no CT, also without candidates."""
        ct = reader.read()
        if ct.is_hounsfield:
            check_plausible_hu(ct.hounsfield, where=f"{self.path.name}, series {self.series_instance_uid}")
        return ct

    def _reader(self) -> CtReader:
        return open_ct(self.path, series_instance_uid=self.series_instance_uid)

    def _check_not_replaced(self, reader: CtReader, before: list[tuple[str, int, int, int]]) -> None:
        """Raise if the CT was replaced since ``before``: chunks and hash would be of two CTs."""
        if reader.file_states() != before:
            msg = f"A CT must stay as it is while it is read, got another in its place ({self.path.name}, series"
            raise UnreadableCtError(f"{msg} {self.series_instance_uid}). Cut again when it is copied.")

    def _cutouts_of(self, ct: Ct, fingerprint: Fingerprint) -> SeriesCutouts:
        chunks = CtChunks(ct, self.center_xyz, self.parameters)
        return SeriesCutouts(
            ct_chunks=chunks,
            center_irc=chunks.center_irc,
            center_xyz=self.center_xyz,
            candidate_id=self.candidate_id,
            header=self._header(ct, fingerprint),
        )

    def _header(self, ct: Ct, fingerprint: Fingerprint) -> dict[str, Any]:
        return build_header(self.series_instance_uid, grid=ct.grid, parameters=self.parameters, fingerprint=fingerprint)

    def _holds_the_same_ct(self) -> bool:
        """Hash the CT's files; record it if their content is that of the CT that was cut."""
        reader, recorded = self._reader(), self.store.header(self.series_instance_uid)["fingerprints"]
        before = reader.file_states()
        known = replace(self.wanted, ct_content=reader.content_fingerprint())
        if known.ct_content != recorded.get("ct_content"):
            return False
        self._check_not_replaced(reader, before)
        self.store.record_ct_content(self.series_instance_uid, known)
        return True
