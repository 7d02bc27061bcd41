"""Candidates of scans whose data source has none: the brightest blobs in the lungs, found once for each CT."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.storage.table_files import read_table_file
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

RULES = "1"
"""Raise it when the same CT gives other proposals."""
TABLE = "proposed_candidates"
MAX_PER_SCAN = 100
_NUM_LINES = 20
_FEW = 8
_SECONDS_BETWEEN_WRITES = 30.0


@dataclass(frozen=True)
class ProposalJob:
    """Finds the candidates of one CT, in any process."""

    series_instance_uid: str
    path: Path

    def run(self) -> list[float]:
        """Return world mm x, y, z of each candidate in falling order of the score, one list (3 N)."""
        import numpy as np

        from luna_pipeline.core.baselines.laplacian import laplacian_candidates
        from luna_pipeline.core.ct.reading import read_ct
        from luna_pipeline.core.lungs.mask import find_lungs

        ct = read_ct(self.path, series_instance_uid=self.series_instance_uid)
        lungs = find_lungs(ct.hounsfield, ct.grid)
        found = laplacian_candidates(ct.hounsfield, ct.grid, lungs, max_candidates=MAX_PER_SCAN)
        center_xyz = np.round(found.center_xyz, 4)
        # Averaged blocks at the border reach beyond the last voxel.
        is_inside = ct.grid.contains(np.floor(ct.grid.world_to_voxel(center_xyz) + 0.5))
        return [float(value) for value in center_xyz[is_inside].ravel()]


def propose_candidates(
    settings: Settings, catalogue: "pd.DataFrame", report: Callable[[str], Any], *, workers: int = 2
) -> "tuple[pd.DataFrame, list[str]]":
    """Return proposed candidates, and a line for each scan without any.

    Those of unchanged CTs are taken from the table of earlier proposals, which is written every half minute and at the
    end, also of an interrupted search.

    Args:
        settings: Paths of the installation.
        catalogue: Readable rows of the catalogue.
        report: Receives lines of progress.
        workers: Processes.

    Returns:
        ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``; and notes.
    """
    import numpy as np
    import pandas as pd

    rows = catalogue.assign(key=[f"{RULES} {value}" for value in catalogue["fingerprint"]])
    known = _known(settings)
    wanted = [(str(row["series_instance_uid"]), row["key"], str(row["path"])) for row in rows.to_dict("records")]
    keys = {uid: key for uid, key, _ in wanted if (uid, key) not in known}
    jobs = [ProposalJob(uid, settings.data_dir / path) for uid, _, path in wanted if uid in keys]
    reasons: dict[str, str] = {}
    written = time.monotonic()
    try:
        for uid, result in _search(jobs, report, workers):
            if isinstance(result, str):
                reasons[uid] = result
                continue
            known[uid, keys[uid]] = {"series_instance_uid": uid, "key": keys[uid], "xyz": result}
            if time.monotonic() - written > _SECONDS_BETWEEN_WRITES:
                _write(settings, known)
                written = time.monotonic()
    finally:
        # Also when interrupted: a CT is searched once.
        if len(jobs) > len(reasons):
            _write(settings, known)
    points = {uid: np.reshape(known[uid, key]["xyz"], (-1, 3)) for uid, key, _ in wanted if (uid, key) in known}
    table = pd.DataFrame(
        np.concatenate([np.empty((0, 3)), *points.values()]), columns=["x_mm", "y_mm", "z_mm"], dtype="float64"
    )
    table.insert(0, "series_instance_uid", [uid for uid, xyz in points.items() for _ in xyz])
    notes = [f"Warning: No candidates in {uid}: {reason}" for uid, reason in reasons.items()]
    if wanted:
        notes.insert(0, f"{len(table)} candidates were proposed in {len(points)} scans by blobs in the lungs.")
    return table, notes


def _search(
    jobs: Sequence[ProposalJob], report: Callable[[str], Any], workers: int
) -> Iterator[tuple[str, list[float] | str]]:
    """Yield the result of each CT, a text for the reason why there is none."""
    from luna_pipeline.core.cutouts.workers import run_jobs

    every = max(1, len(jobs) // _NUM_LINES)
    # Starting a process takes as long as searching a few CTs.
    num_processes = workers if len(jobs) > _FEW else 1
    found = cast("Iterator[tuple[str, list[float] | str]]", run_jobs(cast("Any", jobs), workers=num_processes))
    for number, (uid, result) in enumerate(found, start=1):
        yield uid, result
        if number % every == 0 or number == len(jobs):
            report(f"Candidates proposed in {number} of {len(jobs)} CTs.")


def _known(settings: Settings) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the proposals of every CT that was searched, by series and state; a failed search is made again."""
    path = settings.tables_dir / f"{TABLE}.parquet"
    if not exists(path):
        return {}
    table = read_table_file(path, advice="Remove it: candidates are proposed again.")
    records = cast("list[dict[str, Any]]", table.to_dict("records"))
    return {(row["series_instance_uid"], row["key"]): row for row in records if row["xyz"] is not None}


def _write(settings: Settings, known: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Write the newest proposals of each series."""
    import pandas as pd

    from luna_pipeline.core.storage.tables import write_table

    table = pd.DataFrame(list(known.values()), columns=["series_instance_uid", "key", "xyz"])
    write_table(settings.tables_dir / f"{TABLE}.parquet", table.drop_duplicates("series_instance_uid", keep="last"))
