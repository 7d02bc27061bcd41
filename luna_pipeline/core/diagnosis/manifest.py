"""``diagnosis.json``: the whole diagnosis with its masks, and the digests of its other outputs.

It is written last: its presence says that the diagnosis is complete.
"""

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.plain import from_plain
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.diagnosis.recipes import DiagnosisRecipe
from luna_pipeline.core.diagnosis.result import Diagnosis, ModelVersion, Nodule
from luna_pipeline.core.diagnosis.tables import INTENDED_USE

MANIFEST = "diagnosis.json"
FORMAT = "luna_pipeline diagnosis"
FORMAT_VERSION = 1
CODE_VERSION = "1"
"""Raised by hand when the code finds or writes something else for the same input, models and recipe."""

_MAX_MASK_BYTES = 1 << 30
_PLAIN = ("series_instance_uid", "input_fingerprint", "is_synthetic", "lung_volume_ml")


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Manifest:
    """A diagnosis as it was written.

    Attributes:
        diagnosis: The diagnosis.
        outputs: SHA-256 of each other output by its name.
        has_dicom: Whether DICOM objects were asked for; notes say why one is missing.
        is_deidentified: Whether outputs without values of the patient were requested.
        code_version: ``CODE_VERSION`` of the code that made it.
    """

    diagnosis: Diagnosis
    outputs: Mapping[str, str]
    has_dicom: bool = False
    is_deidentified: bool = False
    code_version: str = CODE_VERSION


def manifest_json(manifest: Manifest) -> bytes:
    """Return the content of ``diagnosis.json``."""
    diagnosis = manifest.diagnosis
    values = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "code_version": manifest.code_version,
        "intended_use": INTENDED_USE,
        **{name: getattr(diagnosis, name) for name in _PLAIN},
        "searched_scans": [diagnosis.series_instance_uid],
        "grid": asdict(diagnosis.grid),
        "recipe": diagnosis.recipe.to_dict(),
        "models": [asdict(model) for model in diagnosis.models],
        "run_ids": dict(diagnosis.run_ids),
        "seconds": {stage: round(seconds, 3) for stage, seconds in diagnosis.seconds.items()},
        "notes": list(diagnosis.notes),
        "has_dicom": manifest.has_dicom,
        "is_deidentified": manifest.is_deidentified,
        "outputs": dict(manifest.outputs),
        "nodules": [_plain_nodule(nodule) for nodule in diagnosis.nodules],
    }
    return (json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def manifest_of(values: Mapping[str, Any]) -> Manifest:
    """Return the manifest of the values in ``diagnosis.json``.

    Raises:
        ValueError: If they are not those of a diagnosis of this format.
    """
    try:
        if (values["format"], values["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise ValueError(f"format {values['format']!r:.40} {values['format_version']!r:.40}")
        diagnosis = Diagnosis(
            **{name: values[name] for name in _PLAIN},
            grid=from_plain(VoxelGrid, values["grid"], "grid"),
            nodules=tuple(map(_nodule, values["nodules"])),
            recipe=DiagnosisRecipe.from_dict(values["recipe"]),
            models=tuple(from_plain(ModelVersion, model, "model") for model in values["models"]),
            notes=tuple(values["notes"]),
            seconds=dict(values["seconds"]),
            run_ids=dict(values["run_ids"]),
        )
        return Manifest(
            diagnosis=diagnosis,
            outputs=dict(values["outputs"]),
            has_dicom=bool(values["has_dicom"]),
            # Earlier versions wrote identified objects only.
            is_deidentified=bool(values.get("is_deidentified", False)),
            code_version=str(values["code_version"]),
        )
    # Values that were edited raise errors of any kind.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        msg = f"{MANIFEST} must hold a diagnosis of format version {FORMAT_VERSION}, got: {reason}."
        raise ValueError(f"{msg} Diagnose the CT again.") from error


def _plain_nodule(nodule: Nodule) -> dict[str, Any]:
    values = {entry.name: getattr(nodule, entry.name) for entry in fields(Nodule) if entry.name != "mask"}
    return {**values, "mask_shape": list(nodule.mask.shape), "mask": _packed(nodule.mask)}


def _nodule(values: Mapping[str, Any]) -> Nodule:
    shape = values["mask_shape"]
    plain = {name: value for name, value in values.items() if name not in {"mask", "mask_shape"}}
    triples = {name: tuple(plain[name]) for name in ("center_xyz", "center_irc", "mask_start_irc")}
    return Nodule(**{**plain, **triples}, mask=_unpacked(values["mask"], (shape[0], shape[1], shape[2])))


def _packed(mask: NDArray[np.bool_]) -> str:
    """Return a mask as base64 of compressed bits, eight voxels a byte, in C order."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()


def _unpacked(text: str, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    bits = zlib.decompressobj().decompress(base64.b64decode(text), _MAX_MASK_BYTES)
    size = math.prod(shape)
    if len(bits) != -(-size // 8):
        raise ValueError(f"{len(bits)} bytes for a mask of shape {shape}")
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=size).astype(bool).reshape(shape)
