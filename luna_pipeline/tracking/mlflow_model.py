"""A trained network as a registered MLflow model: HU in, probability out (of label 1, or of each voxel).

The format is MLflow's default, ``pt2`` (``torch.export``): loading it executes no stored code and needs no class of
this project. The program is exported with two cutouts and accepts any number of them.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from torch import nn

    from luna_pipeline.core.models.base import Signature, TensorSpec
    from luna_pipeline.tracking.mlflow_run import MlflowRun

# Two, because torch.export treats a dimension of size 1 as constant.
NUM_EXAMPLE_CUTOUTS = 2
MODEL_NOTE = (
    "Trained by luna_pipeline. Research use only: not a medical device. The description of a version is its model "
    "card, which the evaluation of its test fold writes."
)


def register_model(
    run: MlflowRun, module: nn.Module, *, name: str, signature: Signature, tags: Mapping[str, str]
) -> str:
    """Log a model of ``run`` and register it as the next version of ``name``, unless the run has registered it.

    Args:
        run: The run of the model.
        module: Maps HU to logits, see ``NETWORKS``.
        name: Name of the registered model, created where it is missing.
        signature: Names, dtypes and shapes of the registered model's input and output; -1 is any size.
        tags: Tags of the registered version; the tag ``checkpoint`` identifies it.

    Returns:
        The model's URI for MLflow, ``models:/<name>/<version>``.
    """
    # Registered before: by a request whose answer was lost, or by a run that was killed afterwards.
    for version in run.client.search_model_versions(f"name = '{name}' and run_id = '{run.run_id}'"):
        if version.status == "READY" and version.tags.get("checkpoint") == tags["checkpoint"]:
            return f"models:/{name}/{version.version}"
    experiment_id = run.client.get_run(run.run_id).info.experiment_id
    logged = run.client.create_logged_model(experiment_id, name=name, source_run_id=run.run_id)
    try:
        with tempfile.TemporaryDirectory(prefix="luna-model-") as folder:
            save_model(module, Path(folder) / "model", signature=signature, logged_model=logged)
            run.client.log_model_artifacts(logged.model_id, str(Path(folder) / "model"))
    except BaseException:
        run.client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    run.client.finalize_logged_model(logged.model_id, "READY")
    return _register(run, logged, name=name, tags=tags)


def save_model(module: nn.Module, folder: Path, *, signature: Signature, logged_model: Any = None) -> None:
    """Write a model in MLflow's format.

    Args:
        module: Maps HU to logits, see ``NETWORKS``.
        folder: Target folder; must not exist.
        signature: Names, dtypes and shapes of the written model's input and output; -1 is any size.
        logged_model: MLflow's record of the model, if any.

    Raises:
        OSError: If the disk is full (``ENOSPC``), before anything is written.
    """
    _check_free_bytes(folder, _needed_bytes(module, signature))
    import mlflow.pytorch
    import torch
    from mlflow.models import Model

    from luna_pipeline.core.export.probability import probability_module

    record = Model()
    if logged_model is not None:
        record = Model(
            artifact_path=logged_model.artifact_location,
            run_id=logged_model.source_run_id,
            model_uuid=logged_model.model_id,
            model_id=logged_model.model_id,
        )
    mlflow.pytorch.save_model(
        probability_module(module),
        str(folder),
        mlflow_model=record,
        signature=mlflow_signature(signature),
        input_example=_example(signature),
        # Without them MLflow starts a second process to find the requirements.
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        serialization_format="pt2",
    )
    _drop_example(record, folder)


def mlflow_signature(signature: Signature) -> ModelSignature:
    """Return MLflow's form of a signature."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema
    from mlflow.types import TensorSpec as MlflowTensorSpec

    def schema(specs: tuple[TensorSpec, ...]) -> Schema:
        # Without names, so that MLflow passes the tensor to the network; named tensors are passed in a dictionary.
        return Schema([MlflowTensorSpec(np.dtype(spec.dtype), tuple(spec.shape)) for spec in specs])

    return ModelSignature(inputs=schema(signature.inputs), outputs=schema(signature.outputs))


def model_summary(module: nn.Module) -> str:
    """Return a table of a network's layers and their numbers of parameters, without a forward pass."""
    rows = [
        (name or "(whole)", type(layer).__name__, sum(p.numel() for p in layer.parameters()))
        for name, layer in module.named_modules()
    ]
    width = max(len(name) for name, _, _ in rows)
    kind_width = max(len(kind) for _, kind, _ in rows)
    lines = [f"{name:<{width}}  {kind:<{kind_width}}  {count:>10,}" for name, kind, count in rows]
    head = f"{'layer':<{width}}  {'kind':<{kind_width}}  {'parameters':>10}"
    return "\n".join([head, *lines, ""])


def _needed_bytes(module: nn.Module, signature: Signature) -> int:
    """Return the bytes of the written model: weights, and its example as JSON, up to 20 characters a value, twice."""
    tensors = [*module.parameters(), *module.buffers()]
    (spec,) = signature.inputs
    num_values = math.prod(NUM_EXAMPLE_CUTOUTS if size == -1 else size for size in spec.shape)
    return sum(tensor.nbytes for tensor in tensors) + 40 * num_values + (1 << 20)


def _check_free_bytes(folder: Path, needed_bytes: int) -> None:
    # torch's zip writer ends the whole process (``terminate called``) when the disk is full.
    if shutil.disk_usage(folder.parent).free < needed_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _example(signature: Signature) -> Any:
    import numpy as np

    (spec,) = signature.inputs
    shape = [NUM_EXAMPLE_CUTOUTS if size == -1 else size for size in spec.shape]
    return np.zeros(shape, dtype=spec.dtype)


def _drop_example(record: Any, folder: Path) -> None:
    # It was needed for the export only; as JSON it is three times as large as the weights.
    for name in ("input_example.json", "serving_input_example.json"):
        (folder / name).unlink(missing_ok=True)
    record.saved_input_example_info = None
    record.save(str(folder / "MLmodel"))


def _register(run: MlflowRun, logged_model: Any, *, name: str, tags: Mapping[str, str]) -> str:
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    try:
        run.client.create_registered_model(name, description=MODEL_NOTE)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = run.client.create_model_version(
        name,
        # Not `models:/<id>`: a store without a server resolves that at MLflow's global address.
        source=logged_model.artifact_location,
        run_id=run.run_id,
        model_id=logged_model.model_id,
        tags=dict(tags),
    )
    run.client.log_outputs(run.run_id, [LoggedModelOutput(logged_model.model_id, step=0)])
    return f"models:/{name}/{version.version}"
