"""Seconds and peak memory of diagnosing a large CT, in a process of its own (``benchmarks.diagnosis_memory``)."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from luna_pipeline.core.ct.reading import Ct

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPES = ("default", "book")
MIB = 1 << 20


def run(ct: Ct, num_slices: int, *, home: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Diagnose a CT with more slices by each recipe, from its file to the report.

    Args:
        ct: A CT; its slices are interpolated linearly.
        num_slices: Number of slices of the large CT.
        home: Home with the book's two checkpoints.
        folder: Where the large CT and the outputs are written.

    Returns:
        For each recipe the seconds by stage, MiB before and at the peak, and their difference as a multiple of the CT
        as float32.
    """
    folder.mkdir(parents=True)
    path = folder / "large.mha"
    _write_large(ct, num_slices, path)
    float32_mib = 4 * num_slices * ct.hounsfield[0].size / MIB
    results = {}
    for recipe in RECIPES:
        work = {"ct": str(path), "out": str(folder / recipe), "home": str(home), "recipe": recipe}
        command = [sys.executable, "-m", "benchmarks.diagnosis_memory", json.dumps(work)]
        done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
        found = dict(json.loads(done.stdout.splitlines()[-1]))
        ratio = round(found["above_mib"] / float32_mib, 3)
        results[recipe] = {"num_slices": num_slices, **found, "float32_mib": float32_mib, "ratio_to_float32": ratio}
    return results


def _write_large(ct: Ct, num_slices: int, path: Path) -> None:
    """Write a CT of the same extent with more, thinner slices."""
    import SimpleITK as sitk

    positions = np.linspace(0, len(ct.hounsfield) - 1, num_slices)
    large = np.empty((num_slices, *ct.hounsfield.shape[1:]), dtype=np.int16)
    for number, position in enumerate(positions):
        lower = min(int(position), len(ct.hounsfield) - 2)
        pair = ct.hounsfield[lower : lower + 2].astype(np.float32)
        large[number] = np.rint(pair[0] + (position - lower) * (pair[1] - pair[0]))
    image: Any = sitk.GetImageFromArray(large)
    x_mm, y_mm, z_mm = ct.grid.spacing_mm
    image.SetSpacing((x_mm, y_mm, z_mm * (len(ct.hounsfield) - 1) / (num_slices - 1)))
    image.SetOrigin(ct.grid.origin_xyz)
    image.SetDirection(ct.grid.direction)
    sitk.WriteImage(image, str(path))


def _diagnose_and_tell(work: dict[str, str]) -> dict[str, Any]:
    """Diagnose once and return seconds and the peaks before and after, in MiB."""
    from benchmarks.bench_diagnosis import ADDRESSES, installation
    from luna_pipeline.core.diagnosis.recipes import diagnosis_recipe
    from luna_pipeline.launchers.diagnosis.diagnose import DiagnosisRequest, diagnose_ct
    from luna_pipeline.launchers.diagnosis.models import find_models

    settings = installation(Path(work["home"]))
    # In memory before it is measured, like the imports; it is loaded again within the measured time.
    models = find_models(settings, **ADDRESSES, series="large")
    request = DiagnosisRequest(
        ct=Path(work["ct"]),
        out=Path(work["out"]),
        recipe=diagnosis_recipe(work["recipe"]),
        segmenter=ADDRESSES["segmenter"],
        classifier=ADDRESSES["classifier"],
    )
    # Sets the peak to the present value.
    Path("/proc/self/clear_refs").write_text("5")
    before = _mib("VmRSS")
    started = time.perf_counter()
    diagnosis = diagnose_ct(settings, request)
    seconds = {name: round(value, 3) for name, value in diagnosis.seconds.items()}
    seconds["total"] = round(time.perf_counter() - started, 3)
    peak = _mib("VmHWM")
    del models
    return {
        "seconds": seconds,
        "num_findings": len(diagnosis.nodules),
        "before_mib": before,
        "peak_mib": peak,
        "above_mib": round(peak - before, 1),
    }


def _mib(name: str) -> float:
    # Not getrusage: its peak includes that of the process that started this one.
    found = re.search(rf"^{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        msg = f"Memory must stand in /proc/self/status, got no {name}. Measure on Linux."
        raise OSError(msg)
    return round(int(found[1]) / 1024, 1)


if __name__ == "__main__":
    print(json.dumps(_diagnose_and_tell(json.loads(sys.argv[1]))))
