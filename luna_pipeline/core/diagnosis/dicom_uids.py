"""UIDs of DICOM objects that are derived from what they identify, so that a rerun writes equal files.

Source:
    DICOM PS3.5, B.2 (UIDs below 2.25: a UUID as a decimal number).
"""

import hashlib
import json
import uuid
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from luna_pipeline.core.diagnosis.result import Diagnosis, Nodule


def derived_uid(*parts: str) -> str:
    """Return a UID that is the same for equal texts."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def software_version() -> str:
    """Return the version of this package."""
    return version("luna-pipeline")


def search_key(diagnosis: Diagnosis) -> str:
    """Return a digest of what a diagnosis depends on: input, recipe and models."""
    models = [(model.role, model.name, model.version, model.weights_sha256) for model in diagnosis.models]
    return _digest([diagnosis.input_fingerprint, diagnosis.series_instance_uid, diagnosis.recipe.to_dict(), models])


def tracking_uid(diagnosis: Diagnosis, nodule: Nodule) -> str:
    """Return the UID of a nodule, the same in each object of the diagnosis and in that of a rerun."""
    return derived_uid("nodule", search_key(diagnosis), _mask_digest(nodule))


def content_key(diagnosis: Diagnosis, **options: Any) -> str:
    """Return a digest of all that an object of a diagnosis states: two objects with one UID must be equal."""
    nodules = [
        (
            *(_mask_digest(nodule), nodule.center_xyz, nodule.diameter_mm, nodule.long_axis_mm, nodule.volume_mm3),
            *(nodule.probability, nodule.malignancy),
        )
        for nodule in diagnosis.nodules
    ]
    models = [asdict(model) for model in diagnosis.models]
    stated = [search_key(diagnosis), nodules, models, dict(diagnosis.run_ids), options, software_version()]
    return _digest(stated)


def _mask_digest(nodule: Nodule) -> str:
    voxels = np.packbits(nodule.mask).tobytes()
    return hashlib.sha256(repr((nodule.mask.shape, nodule.mask_start_irc)).encode() + voxels).hexdigest()


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=float).encode()).hexdigest()
