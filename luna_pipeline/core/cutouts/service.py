"""From CTs and the candidate table to one file of cutouts a series, cutting only what is not there or changed."""

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.ct.reading import Ct, UnreadableCtError, read_ct
from luna_pipeline.core.cutouts.cutting import CuttingParameters, cut_chunks
from luna_pipeline.core.cutouts.fingerprint import Fingerprint, fingerprints_of
from luna_pipeline.core.cutouts.store import CutoutStore, DamagedCutoutsError, SeriesCutouts, build_header

_PLACE = ["x_mm", "y_mm", "z_mm"]
# A candidate's other members: center_irc, center_xyz and candidate_id.
_BYTES_A_ROW = 3 * 4 + 3 * 8 + 8
# Zip and npy headers and the JSON, generously.
_BYTES_A_FILE = 4096


class NotEnoughDiskError(OSError):
    """The cutouts that are to be written do not fit on the disk."""


@dataclass(frozen=True)
class CutOutcome:
    """What happened to one series.

    Attributes:
        series_instance_uid: The series.
        outcome: ``cut``, or ``current`` where the file was there and right.
        num_candidates: Cutouts in the file.
        num_bytes: Size of the file.
        seconds: Wall time.
        fingerprint: Digest of what the cutouts depend on.
    """

    series_instance_uid: str
    outcome: Literal["cut", "current"]
    num_candidates: int
    num_bytes: int
    seconds: float
    fingerprint: str


@dataclass(frozen=True)
class CutSummary:
    """Which series were cut, which were current, and why the others failed (reason by uid)."""

    cut: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def num_cut(self) -> int:
        """Number of series that were cut."""
        return len(self.cut)

    @property
    def num_current(self) -> int:
        """Number of series whose file was there and right."""
        return len(self.current)


class CtCutoutService:
    """Cuts series; one CT is in memory at a time. A service belongs to one thread.

    Args:
        data_root: Folder that the catalogue's paths are relative to.
        catalogue: A row a series (``catalogue_series``).
        candidates: Candidates of all series (``build_candidates``); of series without a CT they are left out.
        store: Where the cutouts are kept.
        parameters: Shape, HU window and edge rule.
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
        self._room: NDArray[np.int16] | None = None

    @cached_property
    def _fingerprints(self) -> dict[str, Fingerprint]:
        return fingerprints_of(self.catalogue, self.candidates, self.parameters)

    @cached_property
    def _rows_of(self) -> dict[str, NDArray[np.intp]]:
        groups = self.candidates.groupby("series_instance_uid", observed=True).indices
        return {str(uid): np.asarray(rows) for uid, rows in groups.items()}

    @cached_property
    def _paths(self) -> dict[str, str]:
        readable = self.catalogue[self.catalogue["is_readable"].astype(bool)]
        return dict(zip(readable["series_instance_uid"], readable["path"], strict=True))

    def plan(self, uids: Sequence[str] | None = None) -> pd.DataFrame:
        """Compare what is there with what should be; no CT and no chunk is read.

        Args:
            uids: The series looked at; all readable ones where it is None.

        Returns:
            A row a series: series_instance_uid; state ``missing``, ``damaged``, ``changed``, ``current`` or,
            for a series asked for by name, ``unreadable``; why; num_rows; num_bytes to be written;
            fingerprint (digest). An overwritten chunk is seen by ``CutoutStore.check`` only.
        """
        rows = [self._planned(uid) for uid in (sorted(self._paths) if uids is None else uids)]
        columns = ["series_instance_uid", "state", "why", "num_rows", "num_bytes", "fingerprint"]
        return pd.DataFrame(rows, columns=columns).astype({"num_rows": "int64", "num_bytes": "int64"})

    def check_free_space(self, plan: pd.DataFrame) -> tuple[int, int]:
        """Return the bytes needed at the worst moment of carrying out the plan, and the bytes free.

        A file is written beside the one it replaces, which goes afterwards.

        Raises:
            NotEnoughDiskError: If more is needed than free.
        """
        needed = settled = 0
        for uid, num_bytes in zip(plan["series_instance_uid"], plan["num_bytes"], strict=True):
            if num_bytes:
                needed = max(needed, settled + int(num_bytes))
                settled += int(num_bytes) - _size_of(self.store.path(uid))
        free = shutil.disk_usage(_existing(self.store.root)).free
        if needed > free:
            msg = (
                f"Cutouts must fit on the disk, got {needed} bytes needed and {free} bytes free "
                f"({int((plan['num_bytes'] > 0).sum())} series, folder {self.store.root}). "
                "Make room or set LUNA_HOME to a larger disk."
            )
            raise NotEnoughDiskError(msg)
        return needed, free

    def cut_series(self, series_instance_uid: str) -> CutOutcome:
        """Cut one series, unless its file is there and right.

        Raises:
            UnreadableCtError: If its CT cannot be read or is not in the catalogue.
            ValueError: If a candidate lies outside the CT, or the edge rule refuses the CT.
            OSError: If the disk is full (NotEnoughDiskError before, CutoutWriteError while writing) or
                read-only.
        """
        started = time.perf_counter()
        path, fingerprint = self._path_of(series_instance_uid), self._fingerprints[series_instance_uid]
        rows = self._candidates_of(series_instance_uid)
        is_current = self.store.digest(series_instance_uid) == fingerprint.digest
        if is_current:
            num_bytes = _size_of(self.store.path(series_instance_uid))
        else:
            self.check_free_space(self.plan([series_instance_uid]))
            ct = read_ct(path, series_instance_uid=series_instance_uid)
            num_bytes = self.store.write(series_instance_uid, self._cutouts(ct, rows, fingerprint))
        return CutOutcome(
            series_instance_uid=series_instance_uid,
            outcome="current" if is_current else "cut",
            num_candidates=len(rows),
            num_bytes=num_bytes,
            seconds=time.perf_counter() - started,
            fingerprint=fingerprint.digest,
        )

    def cut_many(
        self,
        uids: Sequence[str] | None = None,
        *,
        on_outcome: Callable[[CutOutcome], Any] | None = None,
        on_failure: Callable[[str, str], Any] | None = None,
    ) -> CutSummary:
        """Cut series one after the other; one that fails does not stop the others.

        Args:
            uids: The series; all readable ones where it is None.
            on_outcome: Called after each series that is done.
            on_failure: Called with uid and reason after each that failed.

        Raises:
            NotEnoughDiskError: If the cutouts do not fit on the disk; then nothing was cut.
        """
        plan = self.plan(uids)
        self.check_free_space(plan)
        # What killed runs left: not being able to tidy is no reason not to cut.
        with contextlib.suppress(OSError):
            self.store.sweep()
        summary = CutSummary()
        for uid in plan["series_instance_uid"]:
            try:
                outcome = self.cut_series(uid)
            except (ValueError, OSError) as error:
                summary.failed[uid] = " ".join(str(error).split())
                if on_failure is not None:
                    on_failure(uid, summary.failed[uid])
                continue
            (summary.cut if outcome.outcome == "cut" else summary.current).append(uid)
            if on_outcome is not None:
                on_outcome(outcome)
        return summary

    def _planned(self, uid: str) -> tuple[str, str, str, int, int, str]:
        num_rows = len(self._rows_of.get(uid, ()))
        try:
            self._path_of(uid)
        except UnreadableCtError as error:
            return uid, "unreadable", str(error), num_rows, 0, ""
        state, why = self._state(uid)
        num_bytes = 0
        if state != "current":
            chunk_bytes = 2 * int(np.prod(self.parameters.chunk_shape_irc))
            num_bytes = num_rows * (chunk_bytes + _BYTES_A_ROW) + _BYTES_A_FILE
        return uid, state, why, num_rows, num_bytes, self._fingerprints[uid].digest

    def _state(self, uid: str) -> tuple[str, str]:
        try:
            recorded = self.store.header(uid)["fingerprints"]
        except FileNotFoundError:
            return "missing", ""
        except DamagedCutoutsError as error:
            return "damaged", str(error)
        wanted = self._fingerprints[uid].as_dict()
        changed = [part for part, value in wanted.items() if recorded.get(part) != value]
        if not changed:
            return "current", ""
        return "changed", ", ".join(part for part in changed if part != "digest") or "digest"

    def _path_of(self, uid: str) -> Path:
        if uid in self._paths:
            return self.data_root / self._paths[uid]
        found = self.catalogue[self.catalogue["series_instance_uid"] == uid]
        if len(found):
            raise UnreadableCtError(str(found["reason"].iloc[0]))
        msg = f"A series must be in the catalogue, got {uid} (of {len(self._paths)} readable series)."
        raise UnreadableCtError(f"{msg} Check the uid, or materialize `ct_series` again.")

    def _candidates_of(self, uid: str) -> pd.DataFrame:
        # Sorted, so that the order of the table's rows does not show in the file.
        return self.candidates.iloc[self._rows_of.get(uid, [])].sort_values("candidate_id")

    def _cutouts(self, ct: Ct, rows: pd.DataFrame, fingerprint: Fingerprint) -> SeriesCutouts:
        center_xyz = rows[_PLACE].to_numpy(dtype=np.float64)
        center_irc = ct.grid.nearest_voxel(center_xyz)
        _refuse_outside(ct, rows, center_irc)
        room = self._room_for(len(rows))
        header = build_header(ct.series_instance_uid, grid=ct.grid, parameters=self.parameters, fingerprint=fingerprint)
        return SeriesCutouts(
            ct_chunks=cut_chunks(ct.hounsfield, center_irc, self.parameters, out=room),
            center_irc=center_irc,
            center_xyz=center_xyz,
            candidate_id=rows["candidate_id"].to_numpy(dtype=np.int64),
            header=header,
        )

    def _room_for(self, count: int) -> NDArray[np.int16]:
        """Return room for the chunks; used again from series to series, as fresh memory costs more than cutting."""
        if self._room is None or len(self._room) < count:
            self._room = None
            self._room = np.empty((count, *self.parameters.chunk_shape_irc), dtype=np.int16)
        return self._room[:count]


def _refuse_outside(ct: Ct, rows: pd.DataFrame, center_irc: NDArray[np.int32]) -> None:
    is_outside = ~ct.grid.contains(center_irc)
    if is_outside.any():
        row = int(is_outside.argmax())
        msg = (
            f"Each candidate must lie in its CT of shape {ct.grid.size_irc}, got voxel "
            f"{tuple(center_irc[row].tolist())} (candidate {rows['candidate_id'].iloc[row]}, "
            f"{int(is_outside.sum())} such, series {ct.series_instance_uid}). Materialize `candidates` again."
        )
        raise ValueError(msg)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
