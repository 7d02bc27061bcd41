"""A hand-made CT with nodules in it, and the diagnosis that describes it."""

from typing import Any

import numpy as np

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.diagnosis.recipes import default
from luna_pipeline.core.diagnosis.result import Diagnosis, ModelVersion, Nodule

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
UID = "1.2.840.1"


def grid(size_irc=(40, 64, 64), spacing_mm=(1.0, 1.0, 2.0), direction=IDENTITY) -> VoxelGrid:
    return VoxelGrid(size_irc=size_irc, spacing_mm=spacing_mm, origin_xyz=(-30.0, -20.0, 10.0), direction=direction)


def nodule(center_irc=(20, 32, 32), radius_irc=(1, 2, 2), *, of: VoxelGrid | None = None, **changes: Any) -> Nodule:
    """A box of voxels around a centre."""
    of = of or grid()
    x_mm, y_mm, z_mm = (float(value) for value in of.voxel_to_world(center_irc))
    values = {
        "center_xyz": (x_mm, y_mm, z_mm),
        "center_irc": center_irc,
        "diameter_mm": 7.25,
        "long_axis_mm": 8.5,
        "volume_mm3": 199.5,
        "segmentation_score": 0.875,
        "probability": 0.75,
        "malignancy": 0.25,
        "mask": np.ones([2 * radius + 1 for radius in radius_irc], dtype=bool),
        "mask_start_irc": tuple(center - radius for center, radius in zip(center_irc, radius_irc, strict=True)),
    }
    return Nodule(**(values | changes))


def model(role: str, **changes: Any) -> ModelVersion:
    values = {
        "role": role,
        "name": f"nodule_{role}",
        "version": "0.0.1",
        "address": f"models:/nodule_{role}@champion",
        "mlflow_run_id": "f00d" * 8,
        "weights_sha256": "ab" * 32,
        "threshold": None if role == "segmenter" else 0.5,
        "has_unknown_origin": False,
        "has_seen_series": False,
    }
    return ModelVersion(**(values | changes))


def diagnosis(*nodules: Nodule, of: VoxelGrid | None = None, **changes: Any) -> Diagnosis:
    values = {
        "series_instance_uid": UID,
        "grid": of or grid(),
        "nodules": nodules,
        "recipe": default(),
        "models": (model("segmenter"), model("classifier"), model("malignancy", name="malignancy_classifier")),
        "input_fingerprint": "12" * 32,
        "lung_volume_ml": 4321.0,
        "seconds": {"lungs": 1.5},
        "run_ids": {"dagster": "run-1"},
    }
    return Diagnosis(**(values | changes))
