"""Pictures as artifacts of MLflow runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.tracking.mlflow_requests import FEW_RETRIES, mlflow_requests

if TYPE_CHECKING:
    from luna_pipeline.tracking.mlflow_run import MlflowRun


def log_png(run: MlflowRun, png: bytes, file: str) -> None:
    """Log a PNG file as the artifact ``file``, such as ``test/froc.png``; it replaces an older one.

    Raises:
        TrackerUnavailableError: If MLflow is unavailable.
    """
    place = Path(file)
    with tempfile.TemporaryDirectory(prefix="luna-figure-") as folder, mlflow_requests(FEW_RETRIES):
        path = Path(folder) / place.name
        path.write_bytes(png)
        run.client.log_artifact(run.run_id, str(path), None if place.parent == Path() else str(place.parent))
