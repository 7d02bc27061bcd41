"""Schemas of the tables, checked when they are written."""

import numpy as np
import pandas as pd
import pandera.pandas as pa

from luna_pipeline.core.storage.files import AnyPath, written_atomically


def _are_uids(column: pd.Series) -> bool:
    """Check each uid once: 755,000 texts would take a second."""
    uids = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else pd.Index(column.unique())
    return len(uids) == 0 or bool(uids.str.fullmatch(r"\S{1,64}", na=False).all())


def _are_unique(column: pd.Series) -> bool:
    """Compare sorted neighbours, which is four times as fast as a hash table."""
    ordered = np.sort(column.to_numpy())
    return not bool((ordered[1:] == ordered[:-1]).any())


IS_UID = pa.Check(_are_uids, error="1 to 64 characters without spaces")
UID = pa.Column(checks=IS_UID)
# Uids repeat in long tables: categories are read 10 times as fast.
REPEATED_UID = pa.Column("category", IS_UID)
MILLIMETRES = pa.Column("float64")
FINITE_MM = pa.Column("float64", pa.Check(lambda column: column.abs() < 1e5, error="finite mm"))
FOLD = pa.Column("int64", pa.Check.ge(0))
CLASS = pa.Column("int8", pa.Check.isin([0, 1]))
SOURCE = pa.Column(
    "category",
    pa.Check(lambda column: set(column.cat.categories) <= {"candidate", "annotation"}, error="candidate or annotation"),
)
CANDIDATE_ID = pa.Column("int64")
UNIQUE_CANDIDATE_ID = pa.Column("int64", pa.Check(_are_unique, error="one row a candidate"))
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
            "candidate_id": UNIQUE_CANDIDATE_ID,
            "series_instance_uid": REPEATED_UID,
            "x_mm": FINITE_MM,
            "y_mm": FINITE_MM,
            "z_mm": FINITE_MM,
            "class": CLASS,
            "diameter_mm": DIAMETER_MM,
            "malignancy": pa.Column("float64", pa.Check.in_range(1, 5), nullable=True),
            "source": SOURCE,
        }
    ),
    "reader_nodules": pa.DataFrameSchema(
        {
            "series_instance_uid": UID,
            "x_mm": FINITE_MM,
            "y_mm": FINITE_MM,
            "z_mm": FINITE_MM,
            "diameter_mm": DIAMETER_MM,
        }
    ),
    "folds": pa.DataFrameSchema({"series_instance_uid": UID, "fold": FOLD, "rule": pa.Column(str)}),
    "cutout_index": pa.DataFrameSchema(
        {
            "candidate_id": UNIQUE_CANDIDATE_ID,
            "series_instance_uid": REPEATED_UID,
            "row": pa.Column("int64", pa.Check.ge(0)),
            "class": CLASS,
            "diameter_mm": DIAMETER_MM,
            "source": SOURCE,
            "fold": FOLD,
            "fingerprint": pa.Column("category"),
        }
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
            # Chosen on the validation fold of each fold's model.
            "threshold": PROBABILITY,
            "threshold_f1": PROBABILITY,
            "threshold_sensitivity": PROBABILITY,
            "calibrated": pa.Column("float64", pa.Check.in_range(0.0, 1.0), nullable=True),
        },
        unique=["model", "candidate_id"],
    ),
    "nodule_models": pa.DataFrameSchema(
        {
            "model": pa.Column(str),
            # Baselines have neither version nor recipe nor MLflow run.
            "version": pa.Column(object, nullable=True),
            "fold": FOLD,
            "num_parameters": pa.Column("Int64", pa.Check.ge(0), nullable=True),
            "training_seconds": pa.Column("float64", pa.Check.ge(0), nullable=True),
            "scoring_seconds": pa.Column("float64", pa.Check.ge(0)),
            "candidates_per_second": pa.Column("float64", pa.Check.gt(0), nullable=True),
            "num_candidates": pa.Column("int64", pa.Check.ge(1)),
            "mlflow_run_id": pa.Column(object, nullable=True),
            "recipe_digest": pa.Column(object, nullable=True),
            "is_origin_known": pa.Column(bool),
            "fold_digest": pa.Column(str),
        },
        unique=["model", "fold"],
    ),
}
_SHARE = pa.Column("float64", pa.Check.in_range(0.0, 1.0), nullable=True)
TABLES["nodule_froc"] = pa.DataFrameSchema(
    {
        "model": pa.Column(str, unique=True),
        "folds": pa.Column(str),
        "num_scans": pa.Column("int64", pa.Check.ge(1)),
        "num_nodules": pa.Column("int64", pa.Check.ge(0)),
        **{name: _SHARE for name in ("cpm", "cpm_lower", "cpm_upper", "sensitivity_at_1")},
    }
)
TABLES["leaderboard"] = pa.DataFrameSchema(
    {
        "rank": pa.Column("int64", pa.Check.ge(1), unique=True),
        "model": pa.Column(str, unique=True),
        "folds": pa.Column(str),
        **{name: _SHARE for name in ("cpm", "cpm_lower", "cpm_upper", "sensitivity_at_1_fp", "auc")},
    }
)
TABLES["champion"] = pa.DataFrameSchema(
    {"candidate_id": UNIQUE_CANDIDATE_ID, "series_instance_uid": UID, "fold": FOLD, "probability": PROBABILITY}
)
TABLES["tuning_study"] = pa.DataFrameSchema(
    {
        "trial": pa.Column("int64", pa.Check.ge(0), unique=True),
        "rank": pa.Column("Int64", pa.Check.ge(1), nullable=True),
        "state": pa.Column(str, pa.Check.isin(["finished", "stopped_early", "failed"])),
        **{name: _SHARE for name in ("score", "cpm", "auc")},
        "best_epoch": pa.Column("int64", pa.Check.ge(0)),
        "num_epochs": pa.Column("int64", pa.Check.ge(0)),
        "num_restarts": pa.Column("int64", pa.Check.ge(0)),
        "changes": pa.Column(str),
        "error": pa.Column(str),
        "seconds": pa.Column("float64", pa.Check.ge(0)),
    }
)
_NUMBER = pa.Column("float64", nullable=True)
_LENGTH_MM = pa.Column("float64", pa.Check.gt(0), nullable=True)
TABLES["data_quality"] = pa.DataFrameSchema(
    {
        "series_instance_uid": pa.Column(str, IS_UID, unique=True),
        "format": pa.Column(str),
        "is_readable": pa.Column(bool),
        "fold": pa.Column("Int64", pa.Check.ge(0), nullable=True),
        **{name: pa.Column("Int64", pa.Check.ge(0), nullable=True) for name in ("num_slices", "missing_slices")},
        **{name: pa.Column("Int64", pa.Check.ge(0), nullable=True) for name in ("num_nodules", "num_candidates")},
        **{name: _LENGTH_MM for name in ("slice_spacing_mm", "slice_thickness_mm", "pixel_spacing_mm")},
        **{name: _NUMBER for name in ("air_peak_hu", "tissue_peak_hu", "noise_hu", "tilt_deg", "tube_kv")},
        **{name: _SHARE for name in ("padding_share", "clipped_share")},
        "is_hounsfield": pa.Column("boolean", nullable=True),
    }
)
_SCAN_NAME = pa.Column(str, pa.Check.str_length(min_value=1))
TABLES["same_scans"] = pa.DataFrameSchema(
    {
        "series_a": _SCAN_NAME,
        # Empty for a scan that was not compared.
        "series_b": pa.Column(str),
        "kind": pa.Column(
            str,
            pa.Check.isin(["equal", "other orientation", "block of", "overlap", "similar (resampled)", "not compared"]),
        ),
        "share_equal": _SHARE,
        "correlation": pa.Column("float64", pa.Check.in_range(-1.001, 1.001), nullable=True),
        "num_compared": pa.Column("int64", pa.Check.ge(0)),
        "num_anchors": pa.Column("int64", pa.Check.ge(0)),
        "fingerprint_a": pa.Column(str),
        "fingerprint_b": pa.Column(str),
    },
    checks=pa.Check(lambda table: bool((table["series_a"] != table["series_b"]).all()), error="two series a row"),
    unique=["series_a", "series_b"],
)
# Feature baselines are scored where they are fitted, as rows of the same form.
for _name in ("feature_baseline", "malignancy_feature_baseline", "malignancy_predictions"):
    TABLES[_name] = TABLES["nodule_predictions"]
for _name in ("feature_baseline_models", "malignancy_feature_baseline_models", "malignancy_models"):
    TABLES[_name] = TABLES["nodule_models"]


def check_table(name: str, table: pd.DataFrame) -> None:
    """Check a table against the schema of its asset, if there is one.

    Args:
        name: Asset name, such as ``candidates``.
        table: The table.

    Raises:
        ValueError: With the first violated rule and the value.
    """
    schema = TABLES.get(name)
    if schema is None:
        return
    try:
        # In place, to avoid a copy; nothing is changed.
        schema.validate(table, inplace=True)
    except pa.errors.SchemaError as error:
        first = " ".join(str(error).split())[:300]
        msg = f"Table must keep its form, got {first} (table {name}). Materialize what it is made from again."
        raise ValueError(msg) from error


def write_table(path: AnyPath, table: pd.DataFrame, *, name: str | None = None) -> None:
    """Check a table and write it as parquet atomically.

    Args:
        path: The file.
        table: The table.
        name: Name of the asset; None for the file's stem.
    """
    check_table(name or path.stem, table)
    with written_atomically(path) as file:
        table.to_parquet(file, index=False, write_page_checksum=True)
