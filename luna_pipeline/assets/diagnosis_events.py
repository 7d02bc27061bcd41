"""Events, metadata and check results of diagnosed series: pictures and tables on Dagster's pages."""

import io
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from luna_pipeline.assets import markdown
from luna_pipeline.table_columns import shown_table

if TYPE_CHECKING:
    from luna_pipeline.core.diagnosis.result import Diagnosis
    from luna_pipeline.core.lungs.mask import Lungs
    from luna_pipeline.settings import Settings

LUNGS, DIAGNOSIS = "lungs", "diagnosis"
READABLE, GONE, COMPLETE = "incoming_series_readable", "no_incoming_series_is_gone", "diagnoses_complete"
ASSETS = {READABLE: LUNGS, GONE: LUNGS, COMPLETE: DIAGNOSIS}
"""Asset of each check."""
MAX_PICTURE_BYTES = 70_000
"""A PNG on Dagster's page, see ``markdown.picture``."""
NUM_SHOWN = 30
RESEARCH_USE = "Research use only; not a medical device."


def lungs_metadata(settings: "Settings", uid: str, lungs: "Lungs", png: bytes) -> dict[str, Any]:
    """Return picture, volume and file of a lung mask."""
    from luna_pipeline.launchers.diagnosis.incoming_diagnosis import series_folder

    return {
        "picture": dg.MetadataValue.md(markdown.picture(small_png(png), "lungs, research use only")),
        "volume_ml": round(lungs.volume_ml, 1),
        "path": dg.MetadataValue.path(str(series_folder(settings, uid) / LUNGS / "lungs.nrrd")),
        "notes": " ".join([*lungs.notes, RESEARCH_USE]),
    }


def diagnosis_metadata(settings: "Settings", uid: str, diagnosis: "Diagnosis") -> dict[str, Any]:
    """Return the table of findings, the pictures, the models and the seconds of a diagnosis."""
    from luna_pipeline.launchers.diagnosis.incoming_diagnosis import series_folder

    folder = series_folder(settings, uid)
    pictures = {
        name: dg.MetadataValue.md(markdown.picture(small_png(path.read_bytes()), f"{name}, research use only"))
        for name in ("montage", "lungs")
        if (path := folder / f"{name}.png").exists()
    }
    num_more = len(diagnosis.nodules) - NUM_SHOWN
    more = [f"{num_more} more findings are in nodules.csv."] if num_more > 0 else []
    synthetic = ["Synthetic data: a phantom."] if diagnosis.is_synthetic else []
    return {
        "num_findings": len(diagnosis.nodules),
        "num_nodules": sum(nodule.probability >= diagnosis.threshold for nodule in diagnosis.nodules),
        "threshold": diagnosis.threshold,
        "nodules": _nodules_table(diagnosis),
        **pictures,
        "report": dg.MetadataValue.path(str(folder / "report.html")),
        "recipe": diagnosis.recipe.name,
        "models": _models_table(diagnosis),
        "seconds": ", ".join(f"{stage} {value:.1f}" for stage, value in diagnosis.seconds.items()),
        "notes": " ".join([*more, *diagnosis.notes, *synthetic, RESEARCH_USE]),
    }


def small_png(png: bytes) -> bytes:
    """Return a picture that is small enough for Dagster's page: with fewer colours, then with fewer pixels."""
    from PIL import Image

    if len(png) <= MAX_PICTURE_BYTES:
        return png
    with Image.open(io.BytesIO(png)) as picture:
        full = picture.convert("RGB")
    for percent in (100, 85, 70, 55, 40, 30, 20, 10):
        size = (max(1, full.width * percent // 100), max(1, full.height * percent // 100))
        buffer = io.BytesIO()
        full.resize(size, Image.Resampling.LANCZOS).quantize(64).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MAX_PICTURE_BYTES:
            break
    return buffer.getvalue()


def evaluation_of(instance: dg.DagsterInstance, result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """Return the event of a check's result; pages show it only if it names the asset's newest materialization."""
    key = dg.AssetKey(ASSETS[str(result.check_name)])
    newest = next(iter(instance.fetch_materializations(key, limit=1).records), None)
    target = newest and AssetCheckEvaluationTargetMaterializationData(
        storage_id=newest.storage_id, run_id=newest.run_id, timestamp=newest.timestamp
    )
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=str(result.check_name),
        passed=result.passed,
        metadata=result.metadata,
        target_materialization_data=target,
        severity=result.severity,
        description=result.description,
    )


def readable_result(unreadable: Mapping[str, str], num_arriving: int) -> dg.AssetCheckResult:
    """Return the check that everything in the folder of incoming CTs can be diagnosed."""
    from luna_pipeline.core.ct.errors import name_series

    return dg.AssetCheckResult(
        check_name=READABLE,
        passed=not unreadable,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "num_unreadable": len(unreadable),
            "num_arriving": num_arriving,
            "unreadable": dg.MetadataValue.json(dict(unreadable)),
        },
        description=f"Every incoming CT must be readable, got {len(unreadable)} that are not: "
        f"{name_series(unreadable)} | Repair or remove them."
        if unreadable
        else "Every complete incoming CT is readable.",
    )


def gone_result(gone: list[str]) -> dg.AssetCheckResult:
    """Return the check that every registered series is still in the folder; diagnoses of others are kept."""
    named = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
    return dg.AssetCheckResult(
        check_name=GONE,
        passed=not gone,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"num_gone": len(gone), "gone": dg.MetadataValue.json(gone)},
        description=f"Every registered series must have its CT, got {len(gone)} without one: {named}. Their diagnoses "
        "are kept. Remove the partitions with `luna prune --yes`."
        if gone
        else "Every registered series has its CT.",
    )


def complete_result(failed: Mapping[str, str], waiting: list[str]) -> dg.AssetCheckResult:
    """Return the check that the newest attempt of no series failed; series that wait for their run are counted."""
    from luna_pipeline.core.ct.errors import name_series

    return dg.AssetCheckResult(
        check_name=COMPLETE,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "num_failed": len(failed),
            "failed": dg.MetadataValue.json(dict(failed)),
            "num_waiting": len(waiting),
            "waiting": dg.MetadataValue.json(waiting[:50]),
        },
        description=f"Every incoming series must be diagnosed, got {len(failed)} that failed: {name_series(failed)} | "
        "Fix or remove them, and run `diagnose`."
        if failed
        else f"No diagnosis failed; {len(waiting)} series wait for their run.",
    )


def _nodules_table(diagnosis: "Diagnosis") -> dg.TableMetadataValue:
    import pandas as pd

    rows = [
        {
            "no.": number,
            "probability": f"{nodule.probability:.3f}",
            "malignancy probability": "-" if nodule.malignancy is None else f"{nodule.malignancy:.3f}",
            "diameter mm": f"{nodule.diameter_mm:.1f}",
            "x, y, z mm": ", ".join(f"{value:.1f}" for value in nodule.center_xyz),
            "index, row, col": ", ".join(map(str, nodule.center_irc)),
        }
        for number, nodule in enumerate(diagnosis.nodules[:NUM_SHOWN], start=1)
    ]
    return shown_table(pd.DataFrame(rows))


def _models_table(diagnosis: "Diagnosis") -> dg.TableMetadataValue:
    import pandas as pd

    rows = [
        {
            "role": model.role,
            "model": f"{model.name} {model.version}",
            "MLflow run": (model.mlflow_run_id or "-")[:8],
            "origin": "unknown" if model.has_unknown_origin else "known",
            "has seen this CT": "yes" if model.has_seen_series else "no",
        }
        for model in diagnosis.models
    ]
    return shown_table(pd.DataFrame(rows))


def series_left(
    instance: dg.DagsterInstance, settings: "Settings", contents: Mapping[str, str], assets: Collection[str]
) -> list[str]:
    """Return the series of which an asset was not made from the present files, or is unknown to Dagster, sorted.

    Args:
        instance: Dagster's instance.
        settings: Folders.
        contents: Digest of the files of each series.
        assets: ``lungs``, ``diagnosis``.
    """
    from luna_pipeline.launchers.diagnosis.incoming_diagnosis import undiagnosed

    known = set.intersection(*(instance.get_materialized_partitions(dg.AssetKey(asset)) for asset in assets))
    return sorted({*undiagnosed(settings, contents, assets), *(set(contents) - known)})
