"""Condition of a promotion: the network gives the same probabilities in ONNX."""

from luna_pipeline.core.evaluation.promotion import Condition
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.launchers.export import onnx_equality


def export_condition(checkpoint: Checkpoint) -> Condition:
    """Return whether a network, exported to ONNX, equals its original on random and extreme cutouts."""
    try:
        equality = onnx_equality(checkpoint)
    # Exporters and ONNX Runtime have errors of many kinds for what they do not support, some derived from Exception.
    except Exception as error:
        finding = f"The network must be exportable to ONNX, and the export failed with {type(error).__name__}."
        return Condition(name="exported", is_met=False, is_blocking=False, finding=finding)
    finding = (
        f"Probabilities of the ONNX form must differ by at most {equality.tolerance:g}, and they differ by "
        f"{equality.largest:.1e} at most."
    )
    return Condition(name="exported", is_met=equality.is_equal, is_blocking=False, finding=finding)
