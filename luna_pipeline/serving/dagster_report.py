"""Reports of finished diagnoses to Dagster: materializations of the asset ``diagnosis`` without a run.

They go to the REST endpoint of Dagster's webserver. Dagster records each request as a new event, so that an event of
the same result is searched first: a repeated report adds none.

Source:
    dagster_webserver/external_assets.py of Dagster 1.13, ``handle_report_asset_materialization_request``
"""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.diagnosis.manifest import MANIFEST, manifest_of
from luna_pipeline.core.diagnosis.tables import INTENDED_USE
from luna_pipeline.launchers.diagnosis.incoming_diagnosis import DIAGNOSIS, content_version

if TYPE_CHECKING:
    import httpx

    from luna_pipeline.core.diagnosis.result import Diagnosis, ModelVersion, Nodule
    from luna_pipeline.serving.job import Origin

NUM_SHOWN = 30
"""Nodules in an event; ``nodules.json`` has all."""
LIMIT_SECONDS = 30.0
_NUM_SEARCHED = 50
_RESULT = "result_sha256"
_UID = re.compile(r"[0-9.]{1,64}")
_EVENTS = """query($asset: [String!]!, $partitions: [String!]!, $limit: Int!) {
  assetOrError(assetKey: {path: $asset}) { __typename ... on Asset {
    assetMaterializations(partitions: $partitions, limit: $limit) {
      metadataEntries { label ... on TextMetadataEntry { text } } } } } }"""


class DagsterReportError(Exception):
    """Dagster did not accept a report; another attempt may succeed."""


def report_diagnosis(url: str, output: Path, *, job_id: str, origin: "Origin") -> bool:
    """Report a finished diagnosis, unless Dagster has an event of the same result.

    The partition is the SeriesInstanceUID, or the id of the job for a CT without one. It is not registered in Dagster,
    because registered series are those of ``LUNA_INCOMING_DIR``: the check ``no_incoming_series_is_gone`` would report
    it, and the job ``diagnose`` would search for its files.

    Args:
        url: Address of Dagster's webserver.
        output: Folder of the results, with ``diagnosis.json``.
        job_id: Id of the job.
        origin: How the CT arrived.

    Returns:
        Whether an event was added.

    Raises:
        FileNotFoundError: If there is no ``diagnosis.json``.
        ValueError: If it is damaged.
        DagsterReportError: If Dagster cannot be reached, or answers with an error.
    """
    import httpx

    report = materialization(output, job_id=job_id, origin=origin)
    try:
        with httpx.Client(base_url=url, timeout=LIMIT_SECONDS) as client:
            if report["metadata"][_RESULT] in _reported(client, report["partition"]):
                return False
            client.post(f"/report_asset_materialization/{DIAGNOSIS}", json=report).raise_for_status()
    # An answer that is no JSON of GraphQL raises a ValueError or KeyError: another server has the address.
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise DagsterReportError(_reason(error)) from None
    return True


def materialization(output: Path, *, job_id: str, origin: "Origin") -> dict[str, Any]:
    """Return the content of a report: partition, data version, description and metadata, as plain values.

    Raises:
        FileNotFoundError: If there is no ``diagnosis.json`` in the folder.
        ValueError: If it is damaged.
    """
    path = output / MANIFEST
    diagnosis = manifest_of(read_json_object(path, "A diagnosis", advice="Diagnose the CT again.")).diagnosis
    uid = diagnosis.series_instance_uid
    return {
        "partition": uid if _UID.fullmatch(uid) else job_id,
        "data_version": content_version(diagnosis),
        "description": f"Diagnosis by the service. {INTENDED_USE}",
        "metadata": {
            "job": job_id,
            "origin": origin,
            "report": f"/v1/diagnoses/{job_id}/report.html",
            **_findings(diagnosis),
            # It holds the seconds of the stages, so that it differs from that of another diagnosis of the same CT.
            _RESULT: hashlib.sha256(path.read_bytes()).hexdigest(),
        },
    }


def _findings(diagnosis: "Diagnosis") -> dict[str, Any]:
    synthetic = " Synthetic data: a phantom." if diagnosis.is_synthetic else ""
    return {
        "num_findings": len(diagnosis.nodules),
        "num_nodules": sum(nodule.probability >= diagnosis.threshold for nodule in diagnosis.nodules),
        "threshold": diagnosis.threshold,
        "nodules": [_shown_nodule(nodule) for nodule in diagnosis.nodules[:NUM_SHOWN]],
        "models": [_shown_model(model) for model in diagnosis.models],
        "recipe": diagnosis.recipe.name,
        "seconds": round(sum(diagnosis.seconds.values()), 1),
        "notes": f"{INTENDED_USE}{synthetic}",
    }


def _shown_nodule(nodule: "Nodule") -> str:
    malignancy = "" if nodule.malignancy is None else f", malignancy {nodule.malignancy:.3f}"
    center = ", ".join(f"{value:.1f}" for value in nodule.center_xyz)
    return f"probability {nodule.probability:.3f}{malignancy}, {nodule.diameter_mm:.1f} mm, x, y, z {center} mm"


def _shown_model(model: "ModelVersion") -> str:
    run = f", MLflow run {model.mlflow_run_id}" if model.mlflow_run_id else ""
    seen = ", has seen this CT" if model.has_seen_series else ""
    return f"{model.role}: {model.name} {model.version}{run}{seen}"


def _reported(client: "httpx.Client", partition: str) -> set[str]:
    """Return the results of which Dagster has events of a partition, among the newest."""
    variables = {"asset": [DIAGNOSIS], "partitions": [partition], "limit": _NUM_SEARCHED}
    answer = client.post("/graphql", json={"query": _EVENTS, "variables": variables}).raise_for_status()
    asset = answer.json()["data"]["assetOrError"]
    entries = [entry for event in asset.get("assetMaterializations", ()) for entry in event["metadataEntries"]]
    return {entry["text"] for entry in entries if entry["label"] == _RESULT}


def _reason(error: Exception) -> str:
    import httpx

    found = f"status {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else type(error).__name__
    return f"Dagster's webserver must accept a report, got {found} (dagster_url). Start it, or correct its address."
