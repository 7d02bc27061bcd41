"""The nodules of a diagnosis as tables: LUNA16's submission and JSON, with where they come from."""

import json
import struct
import zlib
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.submission import submission_csv
from luna_pipeline.core.diagnosis.result import Diagnosis, Nodule

INTENDED_USE = "Research use only. Not a medical device."
# Signature and IHDR.
_PNG_HEADER_BYTES = 8 + 25
MODEL_FIELDS = (
    "name",
    "version",
    "address",
    "mlflow_run_id",
    "weights_sha256",
    "has_unknown_origin",
    "has_seen_series",
)


def nodules_csv(diagnosis: Diagnosis) -> bytes:
    """Return the nodules as a submission to LUNA16, in falling order of probability.

    Returns:
        ``seriesuid,coordX,coordY,coordZ,probability``, see ``submission_csv``; the header alone without nodules.

    Raises:
        ValueError: If a number is not finite.
    """
    centers = np.array([nodule.center_xyz for nodule in diagnosis.nodules], dtype=np.float64).reshape(-1, 3)
    columns: dict[str, Any] = {
        "series_instance_uid": [diagnosis.series_instance_uid] * len(centers),
        "x_mm": centers[:, 0],
        "y_mm": centers[:, 1],
        "z_mm": centers[:, 2],
        "probability": np.array([nodule.probability for nodule in diagnosis.nodules], dtype=np.float64),
    }
    return submission_csv(pd.DataFrame(columns))


def nodules_json(diagnosis: Diagnosis) -> bytes:
    """Return the nodules as a JSON list in falling order of probability; ``nodules.schema.json`` describes it.

    Positions are world mm (LPS) and voxels of the CT as in its file. Each entry states its provenance.

    Raises:
        ValueError: If a number is not finite.
    """
    origin = provenance(diagnosis)
    entries = [_entry(nodule, diagnosis.series_instance_uid, origin) for nodule in diagnosis.nodules]
    return (json.dumps(entries, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def provenance(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return where a diagnosis comes from, as plain values: models, recipe, input, runs and the intended use."""
    return {
        "intended_use": INTENDED_USE,
        "is_synthetic": diagnosis.is_synthetic,
        "recipe": diagnosis.recipe.name,
        "models": {model.role: {name: getattr(model, name) for name in MODEL_FIELDS} for model in diagnosis.models},
        "input_fingerprint": diagnosis.input_fingerprint,
        "run_ids": dict(diagnosis.run_ids),
    }


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of an output: ``nodules.json`` or ``diagnosis.json``."""
    path = files(__package__) / f"{name.removesuffix('.json')}.schema.json"
    schema: dict[str, Any] = json.loads(path.read_text())
    return schema


def png_with_provenance(png: bytes, diagnosis: Diagnosis) -> bytes:
    """Return a PNG with the text ``provenance``, the JSON of ``provenance``; its pixels stay.

    Source:
        W3C, Portable Network Graphics: a chunk tEXt behind IHDR, the first chunk.
    """
    text = b"tEXtprovenance\0" + json.dumps(provenance(diagnosis), sort_keys=True).encode("ascii")
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return png[:_PNG_HEADER_BYTES] + chunk + png[_PNG_HEADER_BYTES:]


def _entry(nodule: Nodule, series_instance_uid: str, origin: dict[str, Any]) -> dict[str, Any]:
    """Return a nodule as plain values; NumPy's numbers become Python's."""
    return {
        "probability": float(nodule.probability),
        "malignancy": None if nodule.malignancy is None else float(nodule.malignancy),
        "center_xyz": [float(value) for value in nodule.center_xyz],
        "center_irc": [int(value) for value in nodule.center_irc],
        "diameter_mm": float(nodule.diameter_mm),
        "long_axis_mm": float(nodule.long_axis_mm),
        "volume_mm3": float(nodule.volume_mm3),
        "segmentation_score": float(nodule.segmentation_score),
        "series_instance_uid": series_instance_uid,
        "provenance": origin,
    }
