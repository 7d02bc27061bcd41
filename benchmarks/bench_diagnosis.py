"""Measure a diagnosis and write text, JSON and a plot: ``python -m benchmarks.bench_diagnosis --out FOLDER``.

A real scan with the book's two published networks, from the folder that LUNA_TEST_DATA names: the book's procedure
written plainly (``plain_diagnosis``) against the recipes ``book`` and ``default``; then the scan interpolated to 240
slices, from file to report, in a process of its own, with its peak memory. Run it on an idle machine.
"""

import argparse
import json
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import diagnosis_memory, machine
from benchmarks.diagnosis_plot import draw
from benchmarks.plain_diagnosis import PlainResult, diagnose_plainly
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.reading import Ct, read_ct
from luna_pipeline.core.diagnosis.diagnose import DiagnosisModels, diagnose
from luna_pipeline.core.diagnosis.recipes import diagnosis_recipe
from luna_pipeline.core.diagnosis.result import Diagnosis
from luna_pipeline.launchers.diagnosis.models import find_models
from luna_pipeline.launchers.training.book_weights import import_book_model
from luna_pipeline.settings import Settings

Results = dict[str, Any]
RECIPES = ("book", "default")
GOALS = {"book": 3.0, "default": 6.0, "memory": 3.0}
ADDRESSES = {"segmenter": "book_nodule_segmenter 1", "classifier": "book_nodule_classifier 1"}
SCAN = "LIDC-IDRI-0001"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write ``diagnosis.json`` and ``diagnosis.png``; return 1 if a goal was missed."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="luna-bench-", dir=options.scratch) as folder:
        results = measure_all(
            _source(), Path(folder), scan=options.scan, slices=options.slices, large_slices=options.large_slices
        )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "diagnosis.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(results, options.out / "diagnosis.png")
    print(text_of(results))
    return 0 if all(results["goals"].values()) else 1


def measure_all(source: Path, folder: Path, *, scan: str, slices: int | None, large_slices: int) -> Results:
    """Return all figures.

    Args:
        source: Folder with ``book/*.state`` and ``lidc/*.tar.xz``.
        folder: An empty folder for everything that is written.
        scan: Name of the archive.
        slices: Number of middle slices; None for all.
        large_slices: Slices of the large CT.
    """
    facts = machine.facts(folder)
    settings = installation(folder / "home")
    for state_file in sorted((source / "book").glob("*.state")):
        import_book_model(state_file, settings=settings, register=False)
    ct = _middle(_real_ct(source, folder / "scan", scan), slices)
    models = find_models(settings, **ADDRESSES, series=ct.series_instance_uid)
    results: Results = {"machine": facts, "scan": scan, "size_irc": list(ct.grid.size_irc)}
    results |= _recipes(ct, models)
    if large_slices:
        tell(f"{large_slices} slices")
        results["large"] = diagnosis_memory.run(ct, large_slices, home=folder / "home", folder=folder / "large")
    return results | {"goals": _goals(results)}


def installation(home: Path) -> Settings:
    """Return the settings of an installation in a folder, without MLflow."""
    return Settings(data_dir=home / "data", home=home, mlflow_tracking_uri=f"sqlite:///{home / 'mlflow.db'}")


def _recipes(ct: Ct, models: DiagnosisModels) -> Results:
    """Measure both recipes and the plain procedure once each, after a warm-up of a few slices."""
    small = _middle(ct, models.classifier.chunk_shape_irc[0])
    diagnoses: dict[str, Diagnosis] = {}
    seconds: dict[str, dict[str, float]] = {}
    tell("warm-up")
    diagnose(small, models, diagnosis_recipe("book"))
    for name in RECIPES:
        tell(name)
        started = time.perf_counter()
        diagnoses[name] = diagnose(ct, models, diagnosis_recipe(name))
        seconds[name] = {**diagnoses[name].seconds, "total": time.perf_counter() - started}
    tell("plain")
    plain = diagnose_plainly(ct.hounsfield, models.segmenter.network, models.classifier.network)
    seconds["plain"] = {**plain.seconds, "total": sum(plain.seconds.values())}
    return {
        "seconds": {name: _rounded(values) for name, values in seconds.items()},
        "ratios": {name: round(seconds["plain"]["total"] / seconds[name]["total"], 2) for name in RECIPES},
        "num_findings": {"plain": len(plain.probabilities)}
        | {name: len(diagnosis.nodules) for name, diagnosis in diagnoses.items()},
        "differences": differences(plain, diagnoses["book"]),
    }


def differences(plain: PlainResult, diagnosis: Diagnosis) -> dict[str, float]:
    """Return the largest differences of centres (voxels) and probabilities of the two ranked lists."""
    found = [diagnosis.grid.world_to_voxel(nodule.center_xyz) for nodule in diagnosis.nodules]
    if len(found) != len(plain.centers_irc) or not found:
        return {"center_voxels": float("nan"), "probability": float("nan")}
    # Findings of equal probability have no order: each is compared with its nearest one.
    distances = np.abs(plain.centers_irc[:, None] - np.asarray(found)[None]).max(axis=2)
    nearest = distances.argmin(axis=1)
    probabilities = np.asarray([nodule.probability for nodule in diagnosis.nodules])[nearest]
    return {
        "center_voxels": float(distances.min(axis=1).max()),
        "probability": float(np.abs(probabilities - plain.probabilities).max()),
    }


def text_of(results: Results) -> str:
    """Return the figures as text."""
    lines = [f"{results['scan']}, {results['size_irc']} voxels, {results['machine']['processor']}"]
    stages = ("lungs", "segmentation", "grouping", "classification", "total")
    lines.append(f"{'seconds':<10}" + "".join(f"{stage:>16}" for stage in stages) + f"{'findings':>10}{'ratio':>8}")
    for name in ("plain", *RECIPES):
        values = "".join(f"{results['seconds'][name].get(stage, 0.0):>16.1f}" for stage in stages)
        ratio = f"{results['ratios'][name]:>7.1f}x" if name in results["ratios"] else ""
        lines.append(f"{name:<10}{values}{results['num_findings'][name]:>10}{ratio}")
    found = results["differences"]
    lines.append(
        f"book and plain differ by {found['center_voxels']:.1e} voxels and {found['probability']:.1e} in probability"
    )
    for name, large in results.get("large", {}).items():
        lines.append(
            f"{large['num_slices']} slices, {name}: {large['seconds']['total']:.1f} s from file to report, peak "
            f"{large['peak_mib']:.0f} MiB, {large['above_mib']:.0f} MiB above imports and models: "
            f"{large['ratio_to_float32']:.2f} x the CT as float32"
        )
    lines.append(
        "goals: " + ", ".join(f"{name} {'reached' if ok else 'MISSED'}" for name, ok in results["goals"].items())
    )
    return "\n".join(lines)


def tell(what: str) -> None:
    """Print progress to standard error."""
    print(f"... {what}", file=sys.stderr, flush=True)


def _goals(results: Results) -> dict[str, bool]:
    found = results["differences"]
    goals = {f"{name}_speed": results["ratios"][name] >= GOALS[name] for name in RECIPES}
    goals["same_results"] = found["center_voxels"] <= 1.0 and found["probability"] <= 1e-3
    if "large" in results:
        goals["memory"] = all(large["ratio_to_float32"] <= GOALS["memory"] for large in results["large"].values())
    return goals


def _real_ct(source: Path, folder: Path, scan: str) -> Ct:
    folder.mkdir(parents=True)
    with tarfile.open(source / "lidc" / f"{scan}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    (row,) = catalogue_series(folder, patient_key=b"benchmark").itertuples()
    return read_ct(folder / str(row.path), series_instance_uid=str(row.series_instance_uid))


def _middle(ct: Ct, slices: int | None) -> Ct:
    """Return some middle slices as a CT of their own; positions in mm along z are those of its first slices."""
    if slices is None or slices >= len(ct.hounsfield):
        return ct
    first = (len(ct.hounsfield) - slices) // 2
    grid = replace(ct.grid, size_irc=(slices, *ct.grid.size_irc[1:]))
    return replace(ct, hounsfield=ct.hounsfield[first : first + slices], grid=grid)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def _source() -> Path:
    folder = os.environ.get("LUNA_TEST_DATA")
    if not folder:
        msg = "Real scans must be named, got no LUNA_TEST_DATA (a folder with lidc/ and book/). Set it and try again."
        raise SystemExit(msg)
    return Path(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_diagnosis", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of diagnosis.json and diagnosis.png")
    parser.add_argument("--scan", default=SCAN, help=f"archive in lidc/, without .tar.xz (default: {SCAN})")
    parser.add_argument("--slices", type=int, help="only so many middle slices, to try it")
    parser.add_argument("--large-slices", type=int, default=240, help="slices of the large CT, 0 for none")
    parser.add_argument("--scratch", type=Path, help="where the temporary folder lies")
    return parser


if __name__ == "__main__":
    sys.exit(main())
