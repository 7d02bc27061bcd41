"""Weights from MLflow's model registry, by the project's own version, an alias or the registry's number."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from luna_pipeline.core.messages import TrackerUnavailableError
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointError, load_checkpoint
from luna_pipeline.tracking.mlflow_handlers import CHECKPOINT_FILE, CHECKPOINT_FOLDER, CHECKPOINT_TAG
from luna_pipeline.tracking.mlflow_requests import FEW_RETRIES, mlflow_requests

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# So many registered versions are named to somebody who asked for another one.
NUM_NAMED = 5


def load_registered_checkpoint(tracking_uri: str, name: str, version: str) -> Checkpoint:
    """Load the checkpoint of a registered version.

    Args:
        tracking_uri: A server's address or ``sqlite:///…``.
        name: Name of the registered model.
        version: luna_pipeline's own version (``0.0.1``), for which the newest registered version of that name counts;
            an alias (``@champion``); or, where no run has that version, the registry's number (``3``).

    Raises:
        FileNotFoundError: If there is no such version, or its run holds no checkpoint.
        CheckpointError: If its checkpoint is damaged, or none of luna_pipeline.
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    with _answering(tracking_uri) as client, tempfile.TemporaryDirectory(prefix="luna-checkpoint-") as folder:
        registered = _registered_version(client, name, version)
        artifact = f"{CHECKPOINT_FOLDER}/{CHECKPOINT_FILE}"
        where = f"{artifact} of models:/{name}/{registered.version}"
        run_id = registered.run_id
        if not run_id or artifact not in {found.path for found in client.list_artifacts(run_id, CHECKPOINT_FOLDER)}:
            msg = f"A registered version must have the checkpoint of its run, got none ({where})."
            raise FileNotFoundError(f"{msg} Choose a version that luna_pipeline trained.")
        path = Path(client.download_artifacts(run_id, artifact, folder))
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(path), where)) from error


def _registered_version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda entry: -int(entry.version))
    if version.startswith("@"):
        number = client.get_registered_model(name).aliases.get(version[1:]) if found else None
        chosen = [entry for entry in found if str(entry.version) == str(number)]
    else:
        chosen = [entry for entry in found if entry.tags.get(CHECKPOINT_TAG) == f"{name} {version}"]
        chosen += [entry for entry in found if str(entry.version) == version]
    if not chosen:
        newest = [f"{entry.version} = {entry.tags.get(CHECKPOINT_TAG, 'not ours')}" for entry in found[:NUM_NAMED]]
        known = ", ".join(newest)
        msg = f"A model must be in MLflow's registry, got no {name} {version} (registered: {known or 'none'})."
        raise FileNotFoundError(f"{msg} Choose a registered name and version.")
    return chosen[0]


@contextlib.contextmanager
def _answering(tracking_uri: str) -> Iterator[MlflowClient]:
    """A client; where nobody answers it says so in one line, without what an address may hold of passwords."""
    from mlflow import MlflowClient

    database = tracking_uri.removeprefix("sqlite:///")
    if database != tracking_uri and not Path(database).exists():
        msg = f"MLflow's database must be there, got no file {database}. Train first, or set MLFLOW_TRACKING_URI."
        raise FileNotFoundError(msg)
    try:
        with mlflow_requests(FEW_RETRIES):
            yield MlflowClient(tracking_uri)
    except TrackerUnavailableError as error:
        address = urlsplit(tracking_uri)
        shown = f"{address.scheme}://{address.hostname or ''}{f':{address.port}' if address.port else ''}"
        msg = f"MLflow must answer, got no answer ({shown}). Start it, or set MLFLOW_TRACKING_URI."
        raise TrackerUnavailableError(msg) from error
