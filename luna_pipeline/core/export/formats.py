"""Formats of an exported network: the bytes of a file, and a function that runs them."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.models.base import Signature

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""HU (N, ...) to probabilities (N, ...)."""

ONNX_OPSET = 20
# Two, because torch.export treats a dimension of size 1 as constant.
_NUM_EXAMPLES = 2


def to_program(module: nn.Module, signature: Signature) -> torch.export.ExportedProgram:
    """Export a network for any number of inputs.

    Args:
        module: HU to probability, on the CPU, in evaluation mode.
        signature: Its input; -1 is the number of inputs.

    Raises:
        RuntimeError: If torch cannot export it.
    """
    (spec,) = signature.inputs
    example = torch.zeros(_NUM_EXAMPLES, *spec.shape[1:])
    with _quiet():
        return torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("num_inputs", min=1)},))


def pt2_bytes(program: torch.export.ExportedProgram) -> bytes:
    """Return the file of ``torch.export.save``."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def onnx_bytes(program: torch.export.ExportedProgram, signature: Signature) -> bytes:
    """Return an ONNX file with the weights, of opset ``ONNX_OPSET``.

    Raises:
        RuntimeError: If an operation has no ONNX form.
    """
    names = [[spec.name for spec in specs] for specs in (signature.inputs, signature.outputs)]
    with _quiet():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=ONNX_OPSET,
            input_names=names[0],
            output_names=names[1],
        )
    if converted is None:
        raise RuntimeError("ONNX export must give a program, got none. Report it with the network's name.")
    content: bytes = converted.model_proto.SerializeToString()
    return content


def run_module(module: nn.Module) -> Run:
    """Return a function that runs a network of torch."""

    def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            result: NDArray[np.float32] = module(torch.from_numpy(values)).numpy()
        return result

    return run


def run_pt2(content: bytes) -> Run:
    """Return a function that runs a file of ``torch.export``; no code in the file is executed."""
    return run_module(torch.export.load(io.BytesIO(content)).module())


def run_onnx(content: bytes) -> Run:
    """Return a function that runs an ONNX file by ONNX Runtime, with as many threads as torch has."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()

    def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = session.run(None, {entry.name: values})[0]
        return result

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide notes of the exporters that concern their own code, such as optional packages that are not there."""
    loggers: list[tuple[Any, int]] = [(log, log.level) for log in map(logging.getLogger, ("torch.onnx", "onnxscript"))]
    try:
        for log, _ in loggers:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in loggers:
            log.setLevel(level)
