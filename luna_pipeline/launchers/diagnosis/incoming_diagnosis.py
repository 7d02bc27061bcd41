"""Diagnosis of incoming series: their folders, which of them are left to diagnose, and the failed ones.

Each series has a folder ``diagnoses/<uid>`` with the outputs of ``luna diagnose``, ``lungs/lungs.nrrd`` and
``lungs/lungs.png``, and ``incoming.json``: for each asset the digest of the files that it was made from, or why it
failed.
"""

import gzip
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.ct.errors import TransientFailure, failure_of
from luna_pipeline.core.diagnosis.recipes import DiagnosisRecipe
from luna_pipeline.core.storage.files import subfolders, write_bytes
from luna_pipeline.launchers.diagnosis.incoming import files_of_series
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.outbox import TrackerUnavailableError

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.ct.geometry import VoxelGrid
    from luna_pipeline.core.diagnosis.result import Diagnosis, ModelVersion
    from luna_pipeline.core.diagnosis.stages import OnProgress
    from luna_pipeline.core.lungs.mask import Lungs

LUNGS, DIAGNOSIS = "lungs", "diagnosis"
RECORD = "incoming.json"


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Recipe, addresses of the models and device of diagnoses.

    Attributes:
        recipe: How the CTs are searched.
        segmenter: Address; None for the default of ``find_models``.
        classifier: Address of the nodule classifier.
        malignancy: Address of the malignancy classifier.
        device: ``cpu`` or ``cuda``.
    """

    recipe: DiagnosisRecipe = field(default_factory=DiagnosisRecipe)
    segmenter: str | None = None
    classifier: str | None = None
    malignancy: str | None = None
    device: str = "cpu"


def series_folder(settings: Settings, uid: str) -> Path:
    """Return the folder of a series' outputs."""
    return settings.diagnoses_dir / uid


def read_record(settings: Settings, uid: str) -> dict[str, dict[str, Any]]:
    """Return what is recorded of the assets of a series; nothing without a record or with a damaged one."""
    try:
        return read_json_object(series_folder(settings, uid) / RECORD, "A record", advice="Remove it.")
    except (OSError, ValueError):
        return {}


def write_record(settings: Settings, uid: str, asset: str, *, files: str, reason: str | None = None) -> None:
    """Record that an asset of a series was made from files with this digest, or why it failed."""
    entry = {"files": files, "reason": reason, "is_transient": isinstance(reason, TransientFailure)}
    record = {**read_record(settings, uid), asset: entry}
    write_bytes(series_folder(settings, uid) / RECORD, (json.dumps(record, indent=1) + "\n").encode())


def failed_diagnoses(settings: Settings, uids: Iterable[str]) -> dict[str, str]:
    """Return why the newest attempt failed, of each of the series that failed."""
    failed = {}
    for uid in sorted(set(uids).intersection(subfolders(settings.diagnoses_dir))):
        record = read_record(settings, uid)
        reasons = [entry["reason"] for asset in (DIAGNOSIS, LUNGS) if (entry := record.get(asset)) and entry["reason"]]
        if reasons:
            failed[uid] = str(reasons[0])
    return failed


def undiagnosed(settings: Settings, contents: Mapping[str, str], assets: Collection[str]) -> list[str]:
    """Return the series of which an asset was not made from the present files, sorted.

    Args:
        settings: Folders.
        contents: Digest of the files of each series.
        assets: ``lungs``, ``diagnosis``.
    """
    return sorted(uid for uid, files in contents.items() if not _is_made(settings, uid, files, assets))


def outdated(settings: Settings, uids: Iterable[str], choice: ModelChoice) -> list[str]:
    """Return the series whose diagnosis was made with another recipe, other models or other code than now, sorted.

    Raises:
        FileNotFoundError: If there is no model.
    """
    from luna_pipeline.core.diagnosis.manifest import CODE_VERSION, MANIFEST, manifest_of
    from luna_pipeline.launchers.diagnosis.models import find_models

    roles = {"segmenter": choice.segmenter, "classifier": choice.classifier, "malignancy": choice.malignancy}
    wanted = (CODE_VERSION, choice.recipe, _comparable(find_models(settings, series="", **roles).versions))
    found = []
    for uid in sorted(uids):
        try:
            path = series_folder(settings, uid) / MANIFEST
            manifest = manifest_of(read_json_object(path, "A diagnosis", advice="Diagnose the CT again."))
        except (OSError, ValueError):
            found.append(uid)
            continue
        made = (manifest.code_version, manifest.diagnosis.recipe, _comparable(manifest.diagnosis.models))
        if made != wanted:
            found.append(uid)
    return found


def make_lungs(settings: Settings, uid: str, table: "pd.DataFrame") -> "tuple[Lungs, bytes]":
    """Find the lungs of a series, write mask and picture, and return both.

    Raises:
        ValueError: If the CT cannot be used, or shows no lungs.
        OSError: If a file cannot be read or written.
    """
    from luna_pipeline.core.lungs.mask import find_lungs
    from luna_pipeline.core.lungs.picture import lungs_png
    from luna_pipeline.launchers.diagnosis.input import read_input

    given = read_input(input_path(settings, uid, table), series=uid)
    lungs = find_lungs(given.ct.hounsfield, given.ct.grid)
    png = lungs_png(given.ct.hounsfield, given.ct.grid, lungs, is_synthetic=given.is_synthetic)
    folder = series_folder(settings, uid) / LUNGS
    write_bytes(folder / "lungs.png", png)
    write_bytes(folder / "lungs.nrrd", mask_nrrd(lungs.mask, given.ct.grid))
    return lungs, png


def make_diagnosis(
    settings: Settings,
    uid: str,
    table: "pd.DataFrame",
    choice: ModelChoice,
    *,
    run_ids: Mapping[str, str],
    on_progress: "OnProgress | None" = None,
) -> "Diagnosis":
    """Diagnose a series into its folder; a diagnosis of the same voxels, models and recipe is kept.

    Raises:
        ValueError: If the CT or a model cannot be used, or the CT shows no lungs.
        OSError: If a file cannot be read or written.
    """
    from luna_pipeline.launchers.diagnosis.diagnose import DiagnosisRequest, diagnose_ct

    request = DiagnosisRequest(
        ct=input_path(settings, uid, table),
        out=series_folder(settings, uid),
        series=uid,
        recipe=choice.recipe,
        segmenter=choice.segmenter,
        classifier=choice.classifier,
        malignancy=choice.malignancy,
        device=choice.device,
        run_ids=run_ids,
    )
    return diagnose_ct(settings, request, on_progress=on_progress)


def reason_of(error: Exception, uid: str) -> str:
    """Return why a series failed, see ``failure_of``; a server that does not answer is transient."""
    if isinstance(error, TrackerUnavailableError):
        return TransientFailure(" ".join(str(error).split()))
    # The series was read before: what is missing is a model, and training or importing one helps.
    return TransientFailure(str(error)) if isinstance(error, FileNotFoundError) else failure_of(error, uid)


def input_path(settings: Settings, uid: str, table: "pd.DataFrame") -> Path:
    """Return what ``read_input`` reads: one file of a DICOM series, which stands for the series, or the volume file.

    Raises:
        ValueError: If the series is not there, or not readable.
    """
    return files_of_series(settings, uid, table)[0]


def content_version(diagnosis: "Diagnosis") -> str:
    """Return a digest of the nodules with their provenance except runs."""
    import hashlib

    from luna_pipeline.core.diagnosis.tables import nodules_json

    return hashlib.sha256(nodules_json(replace(diagnosis, run_ids={}))).hexdigest()


def mask_nrrd(mask: Any, grid: "VoxelGrid") -> bytes:
    """Return a mask (I, R, C) as a compressed NRRD file in LPS, 1 inside; equal masks give equal bytes.

    Source:
        NRRD format, https://teem.sourceforge.net/nrrd/format.html
    """
    import numpy as np

    axes = np.asarray(grid.direction, dtype=np.float64).reshape(3, 3) * np.asarray(grid.spacing_mm)
    directions = " ".join(f"({','.join(repr(float(value)) for value in axes[:, axis])})" for axis in range(3))
    origin = ",".join(repr(float(value)) for value in grid.origin_xyz)
    lines = [
        "NRRD0004",
        "# Lung mask. Research use only.",
        "type: uint8",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(size) for size in reversed(grid.size_irc))}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        "encoding: gzip",
        f"space origin: ({origin})",
    ]
    voxels = np.ascontiguousarray(mask, dtype=np.uint8)
    return ("\n".join(lines) + "\n\n").encode() + gzip.compress(voxels.tobytes(), compresslevel=6, mtime=0)


def _is_made(settings: Settings, uid: str, files: str, assets: Collection[str]) -> bool:
    from luna_pipeline.core.diagnosis.manifest import MANIFEST

    record = read_record(settings, uid)
    made = [record.get(asset, {}) for asset in assets]
    is_there = DIAGNOSIS not in assets or (series_folder(settings, uid) / MANIFEST).exists()
    return is_there and all(entry.get("files") == files and entry.get("reason") is None for entry in made)


def _comparable(models: "Iterable[ModelVersion]") -> "list[ModelVersion]":
    """Return models without what depends on the series, and on where they were found."""
    return [replace(model, has_seen_series=False, address="") for model in models]
