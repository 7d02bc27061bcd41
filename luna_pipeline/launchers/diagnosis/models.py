"""The models of a diagnosis, from MLflow's registry, a checkpoint's name or a file."""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from luna_pipeline.core.diagnosis.diagnose import DiagnosisModel, DiagnosisModels
from luna_pipeline.core.diagnosis.result import ModelVersion, Role
from luna_pipeline.core.networks.luna import is_segmenter
from luna_pipeline.core.storage.regular_files import shown_name
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.launchers.installation import checkpoint_store
from luna_pipeline.launchers.seen_data import seen_data
from luna_pipeline.launchers.training.initial_weights import full_name
from luna_pipeline.settings import Settings

_REGISTRY = "models:/"
NAMES: Mapping[Role, tuple[str, ...]] = {
    "segmenter": ("nodule_segmenter", "book_nodule_segmenter"),
    "classifier": ("nodule_classifier", "book_nodule_classifier"),
    "malignancy": ("malignancy_classifier",),
}
"""Names that are searched where no address is given: our own, then the imported one."""

_MALIGNANT = "malignant_cutouts"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Found:
    checkpoint: Checkpoint
    address: str


def find_models(
    settings: Settings,
    *,
    segmenter: str | None = None,
    classifier: str | None = None,
    malignancy: str | None = None,
    series: str,
) -> DiagnosisModels:
    """Load the models of a diagnosis.

    An address is a ``.pt`` file, ``NAME`` or ``NAME VERSION`` of a checkpoint, ``models:/NAME@ALIAS`` or
    ``models:/NAME/VERSION``. Without one it is the registry's champion, else the newest complete checkpoint of the
    project's name, else the book's imported model. A malignancy classifier is optional.

    Args:
        settings: Paths of checkpoints and MLflow.
        segmenter: Address of the segmenter.
        classifier: Address of the nodule classifier.
        malignancy: Address of the malignancy classifier.
        series: SeriesInstanceUID of the CT, for ``has_seen_series``.

    Raises:
        FileNotFoundError: If there is no such model, or none at all.
        CheckpointError: If a file is damaged or no checkpoint.
        ValueError: If a model is of another role, or the address is none.
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    addresses: dict[Role, str | None] = {"segmenter": segmenter, "classifier": classifier, "malignancy": malignancy}
    found = {role: _found(settings, role, address) for role, address in addresses.items()}
    missing = [role for role in ("segmenter", "classifier") if found[role] is None]
    if missing:
        raise FileNotFoundError(_missing_text(settings, missing))
    models = {
        role: model_of(role, entry.checkpoint, address=entry.address, series=series)
        for role, entry in found.items()
        if entry is not None
    }
    return DiagnosisModels(
        segmenter=models["segmenter"], classifier=models["classifier"], malignancy=models.get("malignancy")
    )


def find_model(settings: Settings, role: Role, address: str | None = None, *, series: str) -> DiagnosisModel:
    """Load one model; arguments and errors as for ``find_models``.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = _found(settings, role, address)
    if found is None:
        rule = f"{_KINDS[role].capitalize()} must be there, got none (neither a champion in MLflow nor a checkpoint"
        place = f"{NAMES[role][0]} in {settings.checkpoints_dir})"
        raise FileNotFoundError(f"{rule} {place}. Train one, or name a file with --model.")
    return model_of(role, found.checkpoint, address=found.address, series=series)


def weights_sha256(model_state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values of weights, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model_state.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _found(settings: Settings, role: Role, address: str | None) -> _Found | None:
    return _default(settings, role) if address is None else _addressed(settings, address)


def _addressed(settings: Settings, address: str) -> _Found:
    """Load the model of an address."""
    if address.startswith(_REGISTRY):
        return _registered(settings, address)
    if address.endswith(".pt"):
        path = Path(address).expanduser()
        return _Found(checkpoint=load_checkpoint(path), address=shown_name(path))
    store, name, version = checkpoint_store(settings), full_name(address.strip()), ""
    # The tutorial's names have blanks.
    if name == address.strip():
        name, _, version = name.partition(" ")
    version = version.strip() or store.latest(name)
    return _Found(checkpoint=load_checkpoint(store.path(name, version)), address=f"{name} {version}")


def _registered(settings: Settings, address: str) -> _Found:
    place = address.removeprefix(_REGISTRY)
    name, is_alias, alias = place.partition("@")
    version = f"@{alias}"
    if not is_alias:
        name, _, version = place.partition("/")
    if not (name and version.strip("@")):
        msg = f"A registered model must be {_REGISTRY}NAME@ALIAS or {_REGISTRY}NAME/VERSION, got {address}."
        raise ValueError(f"{msg} Write such an address.")
    from luna_pipeline.tracking.mlflow_registry import load_registered_checkpoint

    checkpoint = load_registered_checkpoint(settings.mlflow_tracking_uri, name, version)
    return _Found(checkpoint=checkpoint, address=address)


def _default(settings: Settings, role: Role) -> _Found | None:
    """Load the champion of a role, else its newest checkpoint, else the imported model; None without any."""
    from luna_pipeline.tracking.mlflow_registry import CHAMPION, champion_of

    name = NAMES[role][0]
    # An installation without MLflow has no database.
    with contextlib.suppress(FileNotFoundError):
        if champion_of(settings.mlflow_tracking_uri, name) is not None:
            return _registered(settings, f"{_REGISTRY}{name}@{CHAMPION}")
    store = checkpoint_store(settings)
    for name in NAMES[role]:
        try:
            version = store.latest(name)
        except FileNotFoundError:
            continue
        return _Found(checkpoint=load_checkpoint(store.path(name, version)), address=f"{name} {version}")
    return None


def model_of(role: Role, checkpoint: Checkpoint, *, address: str, series: str = "") -> DiagnosisModel:
    """Return the model of a checkpoint.

    Args:
        role: What it is used for.
        checkpoint: The checkpoint.
        address: Where it was found.
        series: SeriesInstanceUID of the CT, for ``has_seen_series``.

    Raises:
        ValueError: If it is a model of another role.
    """
    network = network_of(checkpoint)
    title = f"{checkpoint.name} {checkpoint.version}"
    own = "segmenter" if is_segmenter(network) else "classifier"
    own = "malignancy" if checkpoint.config.dataset == _MALIGNANT else own
    if own != role:
        msg = f"The model of --{role} must be {_KINDS[role]}, got {_KINDS[own]} ({title})."
        raise ValueError(f"{msg} Give it as --{own}, or choose another.")
    decision, is_classifier = checkpoint.decision, role != "segmenter"
    threshold = np.array([decision.threshold])
    threshold = decision.calibrated(threshold) if decision.is_calibrated else threshold
    version = ModelVersion(
        role=role,
        name=checkpoint.name,
        version=checkpoint.version,
        address=address,
        mlflow_run_id=checkpoint.mlflow_run_id,
        weights_sha256=weights_sha256(checkpoint.model_state),
        threshold=float(threshold[0]) if is_classifier else None,
        has_unknown_origin=checkpoint.has_unknown_origin,
        has_seen_series=series in seen_data(checkpoint).series,
    )
    return DiagnosisModel(
        network=network,
        version=version,
        chunk_shape_irc=checkpoint.config.network.chunk_shape_irc,
        decision=decision,
    )


_KINDS = {
    "segmenter": "a segmenter",
    "classifier": "a classifier of nodules",
    "malignancy": "a classifier of malignancy",
}


def _missing_text(settings: Settings, missing: list[str]) -> str:
    names = " and ".join(NAMES[role][0] for role in missing)  # type: ignore[index]
    return (
        f"A diagnosis needs a segmenter and a nodule classifier, got no {' and no '.join(missing)} (neither a champion "
        f"in MLflow nor a checkpoint {names} in {settings.checkpoints_dir}). Train, or import the book's with "
        "`luna import_book_weights FILE`, or name files with --segmenter and --classifier."
    )
