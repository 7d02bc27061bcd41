"""Places of a diagnosis's models: MLflow's registry, the store of checkpoints, a file."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from luna_pipeline.core.diagnosis.result import Role
from luna_pipeline.core.storage.files import AnyPath, status_of
from luna_pipeline.core.storage.regular_files import shown_name
from luna_pipeline.core.storage.s3 import FileStatus
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.launchers.installation import checkpoint_store
from luna_pipeline.launchers.training.initial_weights import full_name
from luna_pipeline.settings import Settings

_REGISTRY = "models:/"
NAMES: Mapping[Role, tuple[str, ...]] = {
    "segmenter": ("nodule_segmenter", "book_nodule_segmenter"),
    "classifier": ("nodule_classifier", "book_nodule_classifier"),
    "malignancy": ("malignancy_classifier",),
}
"""Names that are searched where no address is given: our own, then the imported one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlace:
    """Where a model is.

    Attributes:
        address: Its address: of the registry, NAME VERSION of a checkpoint, or a file's name as it is shown.
        registered: Name and version or alias in MLflow's registry; None for a file.
        path: The checkpoint's file; None for a registered model.
        state: Number of the registered version, or the file's size and modification time. Places with different states
            may hold different weights.
    """

    address: str
    registered: tuple[str, str] | None = None
    path: "AnyPath | None" = None
    state: str | FileStatus | None = None


def find_place(settings: Settings, role: Role, address: str | None) -> ModelPlace | None:
    """Return where the model of a role is, without loading it; None if there is no default.

    Args:
        settings: Paths of checkpoints and MLflow.
        role: The model's role.
        address: See ``find_models``; None for the default.

    Raises:
        FileNotFoundError: If there is no model with the address.
        ValueError: If the address is none.
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    return _default(settings, role) if address is None else _addressed(settings, address)


def find_places(settings: Settings, addresses: Mapping[Role, str | None]) -> dict[Role, ModelPlace]:
    """Return the places of all models of a diagnosis; ``malignancy`` is optional. For errors see ``find_place``.

    Args:
        settings: Paths of checkpoints and MLflow.
        addresses: Address of each role, None for the default.

    Raises:
        FileNotFoundError: If there is no segmenter or no nodule classifier.
    """
    found = {role: find_place(settings, role, address) for role, address in addresses.items()}
    missing = [role for role in ("segmenter", "classifier") if found[role] is None]
    if missing:
        raise FileNotFoundError(_missing_text(settings, missing))
    return {role: place for role, place in found.items() if place is not None}


def load_place(settings: Settings, place: ModelPlace) -> Checkpoint:
    """Load the checkpoint of a place.

    Raises:
        FileNotFoundError: If it is gone.
        CheckpointError: If it is damaged.
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    if place.path is not None:
        return load_checkpoint(place.path)
    assert place.registered is not None
    from luna_pipeline.tracking.mlflow_registry import load_registered_checkpoint

    return load_registered_checkpoint(settings.mlflow_tracking_uri, *place.registered)


def _addressed(settings: Settings, address: str) -> ModelPlace:
    if address.startswith(_REGISTRY):
        return _registered(settings, address)
    if address.endswith(".pt"):
        path = Path(address).expanduser()
        return _file(path, shown_name(path))
    store, name, version = checkpoint_store(settings), full_name(address.strip()), ""
    # The original project's names have blanks.
    if name == address.strip():
        name, _, version = name.partition(" ")
    version = version.strip() or store.latest(name)
    return _file(store.path(name, version), f"{name} {version}")


def _registered(settings: Settings, address: str) -> ModelPlace:
    place = address.removeprefix(_REGISTRY)
    name, is_alias, alias = place.partition("@")
    version = f"@{alias}"
    if not is_alias:
        name, _, version = place.partition("/")
    if not (name and version.strip("@")):
        msg = f"A registered model must be {_REGISTRY}NAME@ALIAS or {_REGISTRY}NAME/VERSION, got {address}."
        raise ValueError(f"{msg} Write such an address.")
    from luna_pipeline.tracking.mlflow_registry import number_of

    number = number_of(settings.mlflow_tracking_uri, name, version)
    return ModelPlace(address=address, registered=(name, version), state=number)


def _file(path: AnyPath, address: str) -> ModelPlace:
    state = None
    # Loading a missing file explains what is missing.
    with contextlib.suppress(OSError):
        state = status_of(path)
    return ModelPlace(address=address, path=path, state=state)


def _default(settings: Settings, role: Role) -> ModelPlace | None:
    """Return the champion of a role, else its newest checkpoint, else the imported model; None without any."""
    from luna_pipeline.tracking.mlflow_registry import CHAMPION, champion_of

    name = NAMES[role][0]
    # An installation without MLflow has no database.
    with contextlib.suppress(FileNotFoundError):
        if (number := champion_of(settings.mlflow_tracking_uri, name)) is not None:
            return ModelPlace(address=f"{_REGISTRY}{name}@{CHAMPION}", registered=(name, f"@{CHAMPION}"), state=number)
    store = checkpoint_store(settings)
    for name in NAMES[role]:
        try:
            version = store.latest(name)
        except FileNotFoundError:
            continue
        return _file(store.path(name, version), f"{name} {version}")
    return None


def _missing_text(settings: Settings, missing: list[str]) -> str:
    names = " and ".join(NAMES[role][0] for role in missing)  # type: ignore[index]
    return (
        f"A diagnosis needs a segmenter and a nodule classifier, got no {' and no '.join(missing)} (neither a champion "
        f"in MLflow nor a checkpoint {names} in {settings.checkpoints_dir}). Train, or import the book's with "
        "`luna import_book_weights FILE`, or name files with --segmenter and --classifier."
    )
