"""MLflow's model registry: checkpoints by version, alias or number; model cards; the champion.

In all functions ``tracking_uri`` is a server's address or ``sqlite:///…``, and ``name`` that of the registered model.
They raise TrackerUnavailableError if MLflow cannot be reached, and FileNotFoundError if the database does not exist.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointError, load_checkpoint
from luna_pipeline.tracking.mlflow_handlers import CHECKPOINT_FILE, CHECKPOINT_FOLDER, CHECKPOINT_TAG
from luna_pipeline.tracking.mlflow_requests import FEW_RETRIES, first_answer, mlflow_requests
from luna_pipeline.tracking.moved_home import ARTIFACTS, adopt_moved_home
from luna_pipeline.tracking.outbox import TrackerUnavailableError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# Number of registered versions that an error message lists.
NUM_NAMED = 5
CHAMPION = "champion"
CARD_FILE = "model_card.md"
# Longest description that the registry's databases store.
MAX_DESCRIPTION = 5000


def load_registered_checkpoint(tracking_uri: str, name: str, version: str) -> Checkpoint:
    """Load the checkpoint of a registered version.

    Args:
        tracking_uri: MLflow's address.
        name: Name of the registered model.
        version: luna_pipeline's version (``0.0.1``), of which the newest registered one is loaded; an alias
            (``@champion``); or, if no run has that version, the registry's number (``3``).

    Raises:
        FileNotFoundError: If there is no such version, or its run has no checkpoint.
        CheckpointError: If its checkpoint is damaged, or not luna_pipeline's.
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    with _client(tracking_uri) as client, tempfile.TemporaryDirectory(prefix="luna-checkpoint-") as folder:
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


def number_of(tracking_uri: str, name: str, version: str) -> str:
    """Return the registry's number of a version or alias, see ``load_registered_checkpoint``.

    Raises:
        FileNotFoundError: If there is no such version.
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    with _client(tracking_uri) as client:
        return str(_registered_version(client, name, version).version)


def registered_version_of(tracking_uri: str, name: str, run_id: str) -> str | None:
    """Return the registry's number of the newest version that a run registered; None for none."""
    with _client(tracking_uri) as client:
        found = [entry for entry in _versions(client, name) if entry.run_id == run_id]
    return str(found[0].version) if found else None


def log_model_card(tracking_uri: str, run_id: str, markdown: str) -> None:
    """Store a model card as the run's artifact ``model_card.md`` and as description of its registered versions.

    It replaces an older card. A description that is too long is truncated and names the artifact.
    """
    with _client(tracking_uri) as client:
        client.log_text(run_id, markdown, CARD_FILE)
        for entry in client.search_model_versions(f"run_id = '{run_id}'"):
            client.update_model_version(entry.name, entry.version, description=_as_description(markdown))


def promote(
    tracking_uri: str, name: str, version: str, *, alias: str = CHAMPION, tags: Mapping[str, str] | None = None
) -> str | None:
    """Move an alias to a registered version.

    Args:
        tracking_uri: MLflow's address.
        name: Name of the registered model.
        version: The registry's number, see ``registered_version_of``.
        alias: The alias.
        tags: Tags of the version: the reasons for its promotion.

    Returns:
        The number of the version that had the alias before; None for none.

    Raises:
        FileNotFoundError: If there is no such version.
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    with _client(tracking_uri) as client:
        found = _versions(client, name)
        if version not in {str(entry.version) for entry in found}:
            raise _not_registered(name, version, found)
        before = _version_with(client, name, alias)
        # The alias comes last, so that its version always has the tags.
        for key, value in (tags or {}).items():
            client.set_model_version_tag(name, version, key, value)
        client.set_registered_model_alias(name, alias, version)
    return before


def champion_of(tracking_uri: str, name: str, alias: str = CHAMPION) -> str | None:
    """Return the registry's number of the version with an alias; None for none, or if there is no such model."""
    with _client(tracking_uri) as client:
        return _version_with(client, name, alias) if _versions(client, name) else None


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return all versions of a model, newest first."""
    return sorted(client.search_model_versions(f"name = '{name}'"), key=lambda entry: -int(entry.version))


def _version_with(client: MlflowClient, name: str, alias: str) -> str | None:
    number = client.get_registered_model(name).aliases.get(alias)
    return None if number is None else str(number)


def _as_description(markdown: str) -> str:
    if len(markdown) <= MAX_DESCRIPTION:
        return markdown
    rest = f"\n\n… The whole card is the run's artifact {CARD_FILE}.\n"
    # Complete lines, so that no table ends within a row.
    return markdown[: MAX_DESCRIPTION - len(rest)].rpartition("\n")[0] + rest


def _registered_version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    found = _versions(client, name)
    if version.startswith("@"):
        number = _version_with(client, name, version[1:]) if found else None
        chosen = [entry for entry in found if str(entry.version) == number]
    else:
        chosen = [entry for entry in found if entry.tags.get(CHECKPOINT_TAG) == f"{name} {version}"]
        chosen += [entry for entry in found if str(entry.version) == version]
    if not chosen:
        raise _not_registered(name, version, found)
    return chosen[0]


def _not_registered(name: str, version: str, found: list[ModelVersion]) -> FileNotFoundError:
    newest = [f"{entry.version} = {entry.tags.get(CHECKPOINT_TAG, 'not ours')}" for entry in found[:NUM_NAMED]]
    known = ", ".join(newest)
    msg = f"A model must be in MLflow's registry, got no {name} {version} (registered: {known or 'none'})."
    return FileNotFoundError(f"{msg} Choose a registered name and version.")


@contextlib.contextmanager
def _client(tracking_uri: str) -> Iterator[MlflowClient]:
    """Yield a client; raise an outage as one line, without the password of the address."""
    database = tracking_uri.removeprefix("sqlite:///")
    if database != tracking_uri and not Path(database).exists():
        msg = f"MLflow's database must be there, got no file {database}. Train first, or set MLFLOW_TRACKING_URI."
        raise FileNotFoundError(msg)
    from mlflow import MlflowClient

    if database != tracking_uri:
        adopt_moved_home(Path(database), Path(database).with_name(ARTIFACTS))
    try:
        client = MlflowClient(tracking_uri)
        first_answer(lambda: client.search_registered_models(max_results=1), tracking_uri)
        with mlflow_requests(FEW_RETRIES):
            yield client
    except TrackerUnavailableError as error:
        address = urlsplit(tracking_uri)
        shown = f"{address.scheme}://{address.hostname or ''}{f':{address.port}' if address.port else ''}"
        msg = f"MLflow must answer, got no answer ({shown}). Start it, or set MLFLOW_TRACKING_URI."
        raise TrackerUnavailableError(msg) from error
