"""Export of a trained network to ONNX and torch.export, with proven equality and speeds on this CPU."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from luna_pipeline.core.diagnosis.result import Role
from luna_pipeline.core.export.equality import Equality, compare, example_inputs
from luna_pipeline.core.export.formats import (
    ONNX_OPSET,
    Run,
    onnx_bytes,
    pt2_bytes,
    run_module,
    run_onnx,
    run_pt2,
    to_program,
)
from luna_pipeline.core.export.probability import published
from luna_pipeline.core.export.speed import MIN_GAIN, TORCH, Speed, measure
from luna_pipeline.core.models.base import Signature
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.luna import channels_last_of
from luna_pipeline.core.storage.files import remove, write_bytes
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.launchers.diagnosis.model_places import find_place, load_place
from luna_pipeline.launchers.diagnosis.models import role_of, weights_sha256
from luna_pipeline.settings import Settings

ONNX, TORCH_EXPORT = "onnx", "torch_export"
FILES: Mapping[str, str] = {ONNX: "model.onnx", TORCH_EXPORT: "model.pt2"}
FACTS_FILE = "export.json"
RESEARCH_USE = "Research use only; not a medical device."
_PACKAGES = ("torch", "onnx", "onnxruntime")
# Voxels of the inputs whose speed is measured, about 32 cutouts of 32 x 48 x 48.
_MEASURED_VOXELS = 32 * 32 * 48 * 48


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported network.

    Attributes:
        name: Name of the checkpoint.
        version: Version of the checkpoint.
        role: What the model is used for.
        files: Written files by form.
        equality: Comparison with the original by form.
        speed: Speeds on this CPU; None if they were not measured.
    """

    name: str
    version: str
    role: Role
    files: Mapping[str, Path]
    equality: Mapping[str, Equality]
    speed: Speed | None

    @property
    def served(self) -> str | None:
        """Form by which `luna serve` classifies cutouts, ``onnx`` or ``torch``; None if that is not decided here.

        It is decided for nodule classifiers whose speeds were measured.
        """
        if self.speed is None or self.role != "classifier":
            return None
        return ONNX if self.speed.gains[ONNX] >= MIN_GAIN else TORCH


def export_model(settings: Settings, address: str, folder: Path, *, measures_speed: bool = True) -> Exported:
    """Write ``model.onnx``, ``model.pt2`` and ``export.json`` of a model into a folder.

    Each file is read again and compared with the original network; nothing is written unless all are equal. The ONNX
    form of a nodule classifier is also kept for the service if it is at least ``MIN_GAIN`` times as fast as torch on
    this CPU, and a form that was kept earlier is removed if it is not.

    Args:
        settings: Paths of checkpoints and MLflow.
        address: See ``find_models``.
        folder: Created if it is missing.
        measures_speed: Whether to measure the speeds, a few seconds.

    Raises:
        FileNotFoundError: If there is no such model.
        CheckpointError: If the model's file is damaged.
        ValueError: If the address is none, or an exported form is not equal.
        RuntimeError: If the network has an operation that cannot be exported.
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    # An address is not searched by role.
    place = find_place(settings, "classifier", address)
    assert place is not None
    checkpoint = load_place(settings, place)
    module, signature = published(checkpoint)
    program = to_program(module, signature)
    contents = {ONNX: onnx_bytes(program, signature), TORCH_EXPORT: pt2_bytes(program)}
    runs = {ONNX: run_onnx(contents[ONNX]), TORCH_EXPORT: run_pt2(contents[TORCH_EXPORT])}
    inputs = example_inputs(signature)
    equality = {form: compare(run_module(module), run, inputs) for form, run in runs.items()}
    _check_equal(equality)
    speed = _speed(checkpoint, signature, runs) if measures_speed else None
    exported = Exported(
        name=checkpoint.name,
        version=checkpoint.version,
        role=role_of(checkpoint, network_of(checkpoint)),
        files={form: folder / name for form, name in FILES.items()},
        equality=equality,
        speed=speed,
    )
    for form, content in contents.items():
        write_bytes(exported.files[form], content)
    facts = _facts(exported, checkpoint, signature, place.address)
    write_bytes(folder / FACTS_FILE, (json.dumps(facts, indent=2) + "\n").encode())
    kept = fastest_form(settings, weights_sha256(checkpoint.model_state))
    if exported.served == ONNX:
        write_bytes(kept, contents[ONNX])
    elif exported.served == TORCH:
        remove(kept)
    return exported


def fastest_form(settings: Settings, weights: str) -> Path:
    """Return the path of the ONNX form that is faster than torch on this machine, whether there is one or not.

    Args:
        settings: Paths of the installation.
        weights: SHA-256 of the weights, see ``weights_sha256``.
    """
    return settings.local_home / "fastest_forms" / f"{weights}.onnx"


def onnx_equality(checkpoint: Checkpoint) -> Equality:
    """Export a checkpoint's network to ONNX in memory and compare it with the original.

    Raises:
        RuntimeError: If it has an operation that cannot be exported.
        ValueError: If the exported network returns another shape.
    """
    module, signature = published(checkpoint)
    run = run_onnx(onnx_bytes(to_program(module, signature), signature))
    return compare(run_module(module), run, example_inputs(signature))


def _check_equal(equality: Mapping[str, Equality]) -> None:
    for form, found in equality.items():
        if not found.is_equal:
            rule = f"An exported network must equal its original within {found.tolerance:g}, got {found.largest:g}"
            raise ValueError(f"{rule} ({form}). Nothing was written; do not use this network outside torch.")


def _speed(checkpoint: Checkpoint, signature: Signature, runs: Mapping[str, Run]) -> Speed:
    network = network_of(checkpoint).eval()
    layout = channels_last_of(network)
    # As the pipeline runs it; the sigmoid or softmax after it takes no time that counts.
    network = folded(network)
    (spec,) = signature.inputs
    shape = spec.shape[1:]
    num_inputs = max(1, _MEASURED_VOXELS // math.prod(shape))
    values = np.random.default_rng(0).integers(-1000, 1001, (num_inputs, *shape)).astype(np.float32)

    def run_folded(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(inputs).contiguous(memory_format=layout)).numpy()
        return logits

    return measure({TORCH: run_folded, **runs}, values)


def _facts(exported: Exported, checkpoint: Checkpoint, signature: Signature, address: str) -> dict[str, object]:
    """Return what a reader of the files must know, as JSON values."""
    (entry,), (result,) = signature.inputs, signature.outputs
    return {
        "notice": RESEARCH_USE,
        "name": exported.name,
        "version": exported.version,
        "role": exported.role,
        "address": address,
        "weights_sha256": weights_sha256(checkpoint.model_state),
        "has_unknown_origin": checkpoint.has_unknown_origin,
        "decision": checkpoint.decision.to_dict(),
        "input": asdict(entry),
        "output": asdict(result),
        "onnx_opset": ONNX_OPSET,
        "packages": {name: version_of(name) for name in _PACKAGES},
        "equality": {form: asdict(found) for form, found in exported.equality.items()},
        "speed": None if exported.speed is None else asdict(exported.speed),
    }
