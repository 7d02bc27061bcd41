"""Cuts the candidates of each CT into one file per series; only missing and changed series are cut."""

import contextlib
import math
import shutil
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.matching import POINT_COLUMNS
from luna_pipeline.core.candidates.series_codes import rows_by_series
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.fingerprint import Fingerprint, fingerprints_of
from luna_pipeline.core.cutouts.job import CutOutcome, SeriesJob, compare_file
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.cutouts.workers import RunJobs, run_jobs
from luna_pipeline.core.storage.files import AnyPath, is_remote

_PLAN_COLUMNS = ["series_instance_uid", "state", "why", "num_rows", "num_bytes", "digest"]
_REQUESTS_AT_ONCE = 16
# center_irc, center_xyz and candidate_id of a candidate.
_BYTES_A_ROW = 3 * 4 + 3 * 8 + 8
# Upper bound of zip and npy headers and the JSON.
_BYTES_A_FILE = 4096


class NotEnoughDiskError(OSError):
    """The cutouts that are to be written do not fit on the disk."""


@dataclass(frozen=True)
class CutSummary:
    """Series that were cut, that were current, and that failed (reason by uid)."""

    cut: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def num_cut(self) -> int:
        """Number of series that were cut."""
        return len(self.cut)

    @property
    def num_current(self) -> int:
        """Number of series whose file was up to date."""
        return len(self.current)


class CtCutoutService:
    """Cuts series; each worker has one CT in memory at a time. Not thread-safe.

    Args:
        data_root: Folder that the catalogue's paths are relative to.
        catalogue: One row per series (``catalogue_series``).
        candidates: Candidates of all series (``build_candidates``); those of series without a CT are ignored.
        store: Store of the cutout files.
        parameters: Cutting parameters.
    """

    def __init__(
        self,
        *,
        data_root: Path,
        catalogue: pd.DataFrame,
        candidates: pd.DataFrame,
        store: CutoutStore,
        parameters: CuttingParameters,
    ) -> None:
        self.data_root = data_root
        self.catalogue = catalogue
        self.candidates = candidates
        self.store = store
        self.parameters = parameters

    @cached_property
    def _fingerprints(self) -> dict[str, Fingerprint]:
        return fingerprints_of(self.catalogue, self.candidates, self.parameters)

    @cached_property
    def _rows_of(self) -> dict[str, NDArray[np.intp]]:
        return rows_by_series(self.candidates["series_instance_uid"])

    @cached_property
    def _candidate_id(self) -> NDArray[np.int64]:
        return self.candidates["candidate_id"].to_numpy(dtype=np.int64)

    @cached_property
    def _center_xyz(self) -> NDArray[np.float64]:
        return self.candidates[POINT_COLUMNS].to_numpy(dtype=np.float64)

    @cached_property
    def _paths(self) -> dict[str, str]:
        readable = self.catalogue[self.catalogue["is_readable"].astype(bool)]
        return dict(zip(readable["series_instance_uid"], readable["path"], strict=True))

    @property
    def uids(self) -> list[str]:
        """Readable series, sorted."""
        return sorted(self._paths)

    def plan(self, uids: Sequence[str] | None = None) -> pd.DataFrame:
        """Compare files with fingerprints; no CT and no chunk is read.

        Args:
            uids: The series; None for all readable ones.

        Returns:
            One row per series: series_instance_uid; state ``missing``, ``damaged``, ``changed``, ``touched`` (the times
            of the CT's files differ; its content may be the same), ``current`` or ``unreadable``; why; num_rows;
            num_bytes to write; digest of the fingerprint of the existing file. Only ``CutoutStore.check`` finds an
            overwritten chunk.
        """
        asked = self.uids if uids is None else list(uids)
        if is_remote(self.store.root):
            # Each request waits for the server.
            with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
                rows = list(pool.map(self._planned, asked))
        else:
            rows = [self._planned(uid) for uid in asked]
        return pd.DataFrame(rows, columns=_PLAN_COLUMNS).astype({"num_rows": "int64", "num_bytes": "int64"})

    def check_free_space(self, plan: pd.DataFrame) -> tuple[int, float]:
        """Return the peak number of bytes that the plan needs, and the bytes free (inf in S3).

        A file is written completely before the one that it replaces is removed.

        Raises:
            NotEnoughDiskError: If more is needed than free.
        """
        needed = settled = 0
        for uid, num_bytes in zip(plan["series_instance_uid"], plan["num_bytes"], strict=True):
            if num_bytes:
                needed = max(needed, settled + int(num_bytes))
                settled += int(num_bytes) - self.store.num_bytes(uid)
        free = _free_bytes(self.store.root)
        if needed > free:
            msg = (
                f"Cutouts must fit on the disk, got {needed} bytes needed and {free} bytes free "
                f"({int((plan['num_bytes'] > 0).sum())} series, folder {self.store.root}). "
                "Make room or set LUNA_HOME to a larger disk."
            )
            raise NotEnoughDiskError(msg)
        return needed, free

    def cut_series(self, series_instance_uid: str) -> CutOutcome:
        """Cut one series, unless its file is up to date.

        Raises:
            UnreadableCtError: If its CT cannot be read or is not in the catalogue.
            ValueError: If a candidate lies outside the CT, or the CT is too thin for the edge rule.
            OSError: If the disk is full (NotEnoughDiskError before, CutoutWriteError during writing) or read-only.
        """
        job = self.job(series_instance_uid)
        self.check_free_space(self.plan([series_instance_uid]))
        return job.run()

    def job(self, series_instance_uid: str) -> SeriesJob:
        """Return the job that cuts one series.

        Raises:
            UnreadableCtError: If its CT is not readable or not in the catalogue.
        """
        path = self._path_of(series_instance_uid)
        # Sorted by place, which is faster to cut and independent of the order of the table.
        rows = self._rows_of.get(series_instance_uid, np.empty(0, dtype=np.intp))
        candidate_id, center_xyz = self._candidate_id[rows], self._center_xyz[rows]
        order = np.lexsort((candidate_id, *center_xyz.T))
        return SeriesJob(
            series_instance_uid=series_instance_uid,
            path=path,
            candidate_id=candidate_id[order],
            center_xyz=center_xyz[order],
            parameters=self.parameters,
            wanted=self._fingerprints[series_instance_uid],
            store=self.store,
        )

    def cut_many(
        self,
        uids: Sequence[str] | None = None,
        *,
        workers: int | None = None,
        run: RunJobs | None = None,
        on_plan: Callable[[pd.DataFrame, int, float], Any] | None = None,
        on_outcome: Callable[[CutOutcome], Any] | None = None,
        on_failure: Callable[[str, str], Any] | None = None,
    ) -> CutSummary:
        """Cut series; a failed one does not stop the others.

        Args:
            uids: The series; None for all readable ones.
            workers: Processes that cut; None for the default of ``run``.
            run: Runs the jobs; None for processes of this machine.
            on_plan: Called first, with the plan, the bytes needed and the bytes free.
            on_outcome: Called after each successful series.
            on_failure: Called with uid and reason after each failed series.

        Raises:
            NotEnoughDiskError: If the cutouts do not fit on the disk; nothing is cut.
        """
        plan = self.plan(uids)
        needed, free = self.check_free_space(plan)
        if on_plan is not None:
            on_plan(plan, needed, free)
        # Temporary files of killed runs; if they cannot be removed, cutting continues.
        with contextlib.suppress(OSError):
            self.store.sweep()
        summary = CutSummary()
        # Close the generator if a callback raises, so that the workers stop.
        with contextlib.closing(self._results(plan, run or run_jobs, workers)) as results:
            for uid, result in results:
                if isinstance(result, str):
                    summary.failed[uid] = result
                    if on_failure is not None:
                        on_failure(uid, result)
                    continue
                (summary.cut if result.outcome == "cut" else summary.current).append(uid)
                if on_outcome is not None:
                    on_outcome(result)
        return summary

    def _results(
        self, plan: pd.DataFrame, run: RunJobs, workers: int | None
    ) -> Generator[tuple[str, CutOutcome | str], None, None]:
        """Yield unreadable and current series first, then each other series when it is done."""
        listed = self.store.listing()
        open_uids = []
        for uid, state, why, num_rows, _, digest in zip(*(plan[name] for name in _PLAN_COLUMNS), strict=True):
            status = listed.get(f"{uid}.npz")
            if state == "unreadable":
                yield uid, why
            elif state == "current" and status is not None:
                yield uid, CutOutcome(uid, "current", num_rows, status.num_bytes, 0.0, digest)
            else:
                open_uids.append(uid)
        if open_uids:
            yield from run(map(self.job, open_uids), workers=workers)

    def _planned(self, uid: str) -> tuple[str, str, str, int, int, str]:
        num_rows = len(self._rows_of.get(uid, ()))
        try:
            self._path_of(uid)
        except UnreadableCtError as error:
            return uid, "unreadable", str(error), num_rows, 0, ""
        found = compare_file(self.store, uid, self._fingerprints[uid])
        num_bytes = 0
        if found.state not in {"current", "touched"}:
            num_bytes = num_rows * (self.parameters.num_chunk_bytes + _BYTES_A_ROW) + _BYTES_A_FILE
        return uid, found.state, found.why, num_rows, num_bytes, found.digest

    def _path_of(self, uid: str) -> Path:
        if uid in self._paths:
            return self.data_root / self._paths[uid]
        found = self.catalogue[self.catalogue["series_instance_uid"] == uid]
        if len(found):
            raise UnreadableCtError(str(found["reason"].iloc[0]))
        msg = f"A series must be in the catalogue, got {uid} (of {len(self._paths)} readable series)."
        raise UnreadableCtError(f"{msg} Check the uid, or materialize `ct_series` again.")


def _free_bytes(folder: AnyPath) -> float:
    if not isinstance(folder, Path):
        return math.inf
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
