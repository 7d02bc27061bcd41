"""The tables that are kept, column by column: checked when they are written, not hoped for when they are read."""

from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from luna_pipeline.core.files import written_atomically

UID = pa.Column(str, pa.Check.str_matches(r"^\S{1,64}$"))
MILLIMETRES = pa.Column("float64")
FINITE_MM = pa.Column("float64", pa.Check(lambda column: column.abs() < 1e5, error="finite mm"))
FOLD = pa.Column("int64", pa.Check.ge(0))
CLASS = pa.Column("int8", pa.Check.isin([0, 1]))
SOURCE = pa.Column(str, pa.Check.isin(["candidate", "annotation"]))
CANDIDATE_ID = pa.Column("int64")
PROBABILITY = pa.Column("float64", pa.Check.in_range(0.0, 1.0))
DIAMETER_MM = pa.Column("float64", pa.Check.gt(0), nullable=True)

TABLES = {
    "ct_series": pa.DataFrameSchema(
        {
            "series_instance_uid": pa.Column(str),
            "format": pa.Column(str),
            "path": pa.Column(
                str, pa.Check(lambda column: ~column.str.startswith("/"), error="relative to the data root")
            ),
            "is_readable": pa.Column(bool),
            "fingerprint": pa.Column(str, nullable=True),
            "reason": pa.Column(object, nullable=True),
        },
        checks=pa.Check(
            lambda table: not table.loc[table["is_readable"], "series_instance_uid"].duplicated().any(),
            error="one readable row a series",
        ),
    ),
    "candidates": pa.DataFrameSchema(
        {
            "candidate_id": CANDIDATE_ID,
            "series_instance_uid": UID,
            "x_mm": FINITE_MM,
            "y_mm": FINITE_MM,
            "z_mm": FINITE_MM,
            "class": CLASS,
            "diameter_mm": DIAMETER_MM,
            "malignancy": pa.Column("float64", pa.Check.in_range(1, 5), nullable=True),
            "source": SOURCE,
        },
        unique=["candidate_id"],
    ),
    "folds": pa.DataFrameSchema({"series_instance_uid": UID, "fold": FOLD, "rule": pa.Column(str)}),
    "cutout_index": pa.DataFrameSchema(
        {
            "candidate_id": CANDIDATE_ID,
            "series_instance_uid": UID,
            "row": pa.Column("int64", pa.Check.ge(0)),
            "class": CLASS,
            "diameter_mm": DIAMETER_MM,
            "source": SOURCE,
            "fold": FOLD,
            "fingerprint": pa.Column(str),
        },
        unique=["candidate_id"],
    ),
    "nodule_predictions": pa.DataFrameSchema(
        {
            "candidate_id": CANDIDATE_ID,
            "series_instance_uid": UID,
            "x_mm": FINITE_MM,
            "y_mm": FINITE_MM,
            "z_mm": FINITE_MM,
            "class": CLASS,
            "fold": FOLD,
            "model": pa.Column(str),
            "probability": PROBABILITY,
            "threshold": PROBABILITY,
        },
        unique=["model", "candidate_id"],
    ),
}


def check_table(name: str, table: pd.DataFrame) -> None:
    """Refuse a table that is not what its name promises; names without a schema pass.

    Args:
        name: Asset name, such as ``candidates``.
        table: Its rows.

    Raises:
        ValueError: The first rule that is broken, with the value.
    """
    schema = TABLES.get(name)
    if schema is None:
        return
    try:
        schema.validate(table)
    except pa.errors.SchemaError as error:
        first = " ".join(str(error).split())[:300]
        msg = f"Table must keep its form, got {first} (table {name}). Materialize what it is made from again."
        raise ValueError(msg) from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Check a table by its file's name and write it as parquet, whole or not at all."""
    check_table(path.stem, table)
    with written_atomically(path) as file:
        table.to_parquet(file, index=False)
