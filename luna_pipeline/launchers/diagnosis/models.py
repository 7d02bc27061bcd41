"""The models of a diagnosis, from MLflow's registry, a checkpoint's name or a file."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from luna_pipeline.core.diagnosis.diagnose import DiagnosisModel, DiagnosisModels
from luna_pipeline.core.diagnosis.result import ModelVersion, Role
from luna_pipeline.core.networks.luna import is_segmenter
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.launchers.diagnosis.model_places import NAMES, find_place, find_places, load_place
from luna_pipeline.launchers.seen_data import seen_data
from luna_pipeline.settings import Settings

_MALIGNANT = "malignant_cutouts"


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
    models = {
        role: model_of(role, load_place(settings, place), address=place.address, series=series)
        for role, place in find_places(settings, addresses).items()
    }
    return DiagnosisModels(
        segmenter=models["segmenter"], classifier=models["classifier"], malignancy=models.get("malignancy")
    )


def find_model(settings: Settings, role: Role, address: str | None = None, *, series: str) -> DiagnosisModel:
    """Load one model; arguments and errors as for ``find_models``.

    Raises:
        FileNotFoundError: If there is none.
    """
    place = find_place(settings, role, address)
    if place is None:
        rule = f"{_KINDS[role].capitalize()} must be there, got none (neither a champion in MLflow nor a checkpoint"
        where = f"{NAMES[role][0]} in {settings.checkpoints_dir})"
        raise FileNotFoundError(f"{rule} {where}. Train one, or name a file with --model.")
    return model_of(role, load_place(settings, place), address=place.address, series=series)


def weights_sha256(model_state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values of weights, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model_state.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def role_of(checkpoint: Checkpoint, network: nn.Module) -> Role:
    """Return what the model of a checkpoint, with its network, is used for."""
    if checkpoint.config.dataset == _MALIGNANT:
        return "malignancy"
    return "segmenter" if is_segmenter(network) else "classifier"


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
    own = role_of(checkpoint, network)
    if own != role:
        msg = f"The model given as {role} must be {_KINDS[role]}, got {_KINDS[own]} ({title})."
        raise ValueError(f"{msg} Give it as {own}, or choose another.")
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
