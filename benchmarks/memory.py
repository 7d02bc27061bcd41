"""Peak memory of cutting one series, measured in a separate process (``python -m benchmarks.memory``)."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Site, points_in, table_of
from benchmarks.project import ProjectCutter
from benchmarks.workload import Workload
from luna_pipeline.core.ct.catalogue import catalogue_series

REPOSITORY = Path(__file__).resolve().parents[1]


def run(site: Site, workload: Workload, *, folder: Path) -> dict[str, Any]:
    """Measure the peak for the default and for the largest number of candidates.

    Returns:
        MiB by number of candidates: ``before_mib`` cutting (imports, catalogue, candidates of the series), ``peak_mib``
        in all, pages of mapped files included, and ``cutting_mib``, their difference.
    """
    counts = sorted({workload.num_candidates, max(workload.candidate_counts)})
    return {str(count): _peak_in_child(site, workload, count=count, folder=folder) for count in counts}


def _peak_in_child(site: Site, workload: Workload, *, count: int, folder: Path) -> dict[str, float]:
    work = {
        "data_root": str(site.data_root),
        "out": str(folder / "cutouts"),
        "uid": site.uids[0],
        "size_irc": workload.size_irc,
        "chunk_shape_irc": workload.chunk_shape_irc,
        "count": count,
    }
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps(work)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _cut_and_tell(work: dict[str, Any]) -> dict[str, float]:
    """Cut one series and return the peaks before and after, in MiB."""
    data_root, uid, count = Path(work["data_root"]), work["uid"], work["count"]
    points_xyz = points_in(tuple(work["size_irc"]), count, seed=(0, count))
    candidates = table_of(np.repeat(np.asarray([uid], dtype=object), count), points_xyz)
    site = Site(data_root, [uid], "", [uid], catalogue_series(data_root, patient_key=b"benchmark"), candidates)
    cutter = ProjectCutter(site, out=Path(work["out"]), chunk_shape_irc=tuple(work["chunk_shape_irc"]))
    before = _peak_mib()
    cutter.cut_series(uid)
    peak = _peak_mib()
    cutter.remove()
    return {"before_mib": before, "peak_mib": peak, "cutting_mib": round(peak - before, 1)}


def _peak_mib() -> float:
    # Not getrusage: its peak includes that of the process that started this one.
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        msg = "The peak must stand in /proc/self/status, got no VmHWM. Measure on Linux."
        raise OSError(msg)
    return round(int(found[1]) / 1024, 1)


if __name__ == "__main__":
    print(json.dumps(_cut_and_tell(json.loads(sys.argv[1]))))
