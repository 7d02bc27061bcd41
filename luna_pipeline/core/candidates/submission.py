"""Predictions in LUNA16's submission format."""

import numpy as np
import pandas as pd

from luna_pipeline.core.storage.files import AnyPath, write_bytes

SUBMISSION_COLUMNS = {
    "series_instance_uid": "seriesuid",
    "x_mm": "coordX",
    "y_mm": "coordY",
    "z_mm": "coordZ",
    "probability": "probability",
}


def submission_csv(rows: pd.DataFrame) -> bytes:
    """Return predictions of one model as a submission: a header, then one row per candidate in the given order.

    Args:
        rows: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm`` (LPS millimetres) and ``probability``.

    Returns:
        ``seriesuid,coordX,coordY,coordZ,probability``; numbers with enough digits to restore the same value.

    Raises:
        ValueError: If a number is not finite.

    Source:
        luna16.grand-challenge.org/Evaluation.
    """
    numbers = rows[list(SUBMISSION_COLUMNS)[1:]].to_numpy(dtype=np.float64)
    is_odd = ~np.isfinite(numbers).all(axis=1)
    if is_odd.any():
        uid = rows["series_instance_uid"][is_odd].iloc[0]
        msg = f"A submission must hold finite numbers, got {int(is_odd.sum())} rows with others (the first of series"
        raise ValueError(f"{msg} {uid}). Score these candidates again.")
    table = rows[list(SUBMISSION_COLUMNS)].rename(columns=SUBMISSION_COLUMNS)
    return table.to_csv(index=False, lineterminator="\n").encode()


def write_submission(path: AnyPath, rows: pd.DataFrame) -> None:
    """Write predictions of one model as a submission atomically, see ``submission_csv``."""
    write_bytes(path, submission_csv(rows))
