"""Columns of the tables for Dagster's catalogue: what they hold, their types and rules, and where they come from."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.core.storage.columns import describe_column

if TYPE_CHECKING:
    import pandas as pd

_TYPES = {"category": "string", "str": "string", "boolean": "bool"}
_DIGITS = 4
_RULES = {"greater_than": "more than", "greater_than_or_equal_to": "at least", "isin": "one of", "in_range": "from"}
_BETWEEN = {"in_range": " to "}
_POINT = ("x_mm", "y_mm", "z_mm")
_KEYS = ("candidate_id", "series_instance_uid", *_POINT, "class")
_SCORES = ("model", "probability", "threshold", "threshold_f1", "threshold_sensitivity", "calibrated")
# Asset: upstream asset: columns that are taken over under the same name.
_CARRIED: Mapping[str, Mapping[str, Sequence[str]]] = {
    "candidates": {"ct_series": ("series_instance_uid",)},
    "reader_nodules": {"ct_series": ("series_instance_uid",)},
    "folds": {"ct_series": ("series_instance_uid", "patient_hash")},
    "data_quality": {
        "ct_series": (
            *("series_instance_uid", "format", "is_readable", "reason", "fingerprint", "data_source"),
            *("manufacturer", "slice_thickness_mm"),
        ),
        "folds": ("fold",),
    },
    "cutout_index": {
        "candidates": ("candidate_id", "series_instance_uid", "class", "is_malignant", "diameter_mm", "source"),
        "folds": ("fold",),
    },
    "feature_baseline": {"candidates": _KEYS, "cutout_index": ("fold",)},
    "nodule_predictions": {
        "candidates": _KEYS,
        "cutout_index": ("fold",),
        "feature_baseline": _SCORES,
        "zero_rule_baseline": ("model", "probability"),
    },
    "nodule_report": {"nodule_predictions": ("model",)},
    "nodule_calibration": {"nodule_predictions": ("model",)},
    "nodule_subgroups": {"nodule_predictions": ("model",)},
    "nodule_errors": {"nodule_predictions": (*_KEYS, "fold", *_SCORES)},
    "nodule_froc": {"nodule_predictions": ("model",)},
    "leaderboard": {
        "nodule_froc": ("model", "folds", "cpm", "cpm_lower", "cpm_upper", "classifier_versions"),
        "nodule_report": ("model", "folds", "auc", "auc_lower", "auc_upper"),
    },
    "champion": {"nodule_predictions": (*_KEYS, "fold", *_SCORES)},
}
_OF_SCORES = {"nodule_predictions": ("probability", "class")}
# Asset: pattern of its columns, and the columns that these are computed from.
_COMPUTED: Mapping[str, Sequence[tuple[str, Mapping[str, Sequence[str]]]]] = {
    "same_scans": [("series_[ab]", {"ct_series": ("series_instance_uid",)})],
    "candidates": [
        *(
            (f"{axis}_mm", {"annotations": (f"coord{axis.upper()}",), "candidates_v2": (f"coord{axis.upper()}",)})
            for axis in "xyz"
        ),
        ("class", {"candidates_v2": ("class",)}),
        ("diameter_mm", {"annotations": ("diameter_mm",)}),
        ("malignancy|is_malignant", {"malignancy_ratings": ("malignant_details",)}),
    ],
    "folds": [("fold", {"ct_series": ("subset", "patient_hash"), "same_scans": ("series_a", "series_b")})],
    "data_quality": [
        ("num_nodules|num_candidates", {"candidates": ("source",)}),
        (".*_nodule_mm", {"candidates": ("diameter_mm",)}),
        ("num_(slices|rows|cols)", {"ct_series": ("size_irc",)}),
        ("(slice_spacing|pixel_spacing|gap|field_of_view|coverage)_mm", {"ct_series": ("spacing_mm",)}),
    ],
    "zero_rule_baseline": [("probability|num_training_candidates", {"cutout_index": ("class", "fold")})],
    "feature_baseline": [("probability", {"cutout_index": ("class", "fold")})],
    "nodule_report": [("(auc|average|sens|spec|prec|f1|true|false|brier|ece|num_).*", _OF_SCORES)],
    "nodule_calibration": [
        ("mean_score|share_of_positives|count", {"nodule_predictions": ("probability", "calibrated", "class")})
    ],
    "nodule_subgroups": [("(auc|sens|spec|num_).*", _OF_SCORES)],
    "nodule_froc": [
        (
            "(cpm|sens|num_).*",
            {
                "nodule_predictions": ("probability", *_POINT),
                "annotations": ("coordX", "coordY", "coordZ", "diameter_mm"),
                "annotations_excluded": ("coordX", "coordY", "coordZ"),
            },
        )
    ],
    "leaderboard": [
        ("sensitivity_at_1_fp", {"nodule_froc": ("sensitivity_at_1",)}),
        ("rank|better_than_next|cpm_gain.*", {"nodule_froc": ("cpm_draws",)}),
    ],
}
_AS_OF_NODULES = "malignancy_"


def column_schema(name: str, table: "pd.DataFrame") -> dg.TableSchema:
    """Return type, description and rules of each column of a table.

    Args:
        name: Asset name, whose pandera schema has the rules.
        table: The table; it has columns that the schema does not name.
    """
    from luna_pipeline.core.storage.tables import TABLES

    ruled: Mapping[str, Any] = TABLES[name].columns if name in TABLES else {}
    return dg.TableSchema([_column(str(column), table[column], ruled.get(column)) for column in table.columns])


def _column(name: str, values: "pd.Series", rule: Any) -> dg.TableColumn:
    constraints = None
    if rule is not None:
        rules = [_in_words(str(check.error or check.name)) for check in rule.checks]
        constraints = dg.TableColumnConstraints(nullable=rule.nullable, unique=rule.unique, other=rules)
    return dg.TableColumn(name, _type_of(values), describe_column(name), constraints)


def _in_words(rule: str) -> str:
    """Return a rule in words: pandera's own names a function with its arguments."""
    name, _, arguments = rule.partition("(")
    return f"{_RULES[name]} {arguments[:-1]}".replace(", ", _BETWEEN.get(name, ", ")) if name in _RULES else rule


def _type_of(values: "pd.Series") -> str:
    """Return the type of a column: an object column has texts, if not lists or other values."""
    kind = str(values.dtype)
    if kind != "object":
        return _TYPES.get(kind, kind.lower())
    first = next((value for value in values if not _is_missing(value)), "")
    return {"str": "string", "ndarray": "list", "bool_": "bool"}.get(type(first).__name__, type(first).__name__)


def column_lineage(name: str, columns: Iterable[str]) -> dg.TableColumnLineage | None:
    """Return the columns that those of a table come from; None for a table that nothing is stated of."""
    deps = {column: list(dict.fromkeys(_deps(name, column))) for column in columns}
    found = {column: made_from for column, made_from in deps.items() if made_from}
    return dg.TableColumnLineage(found) if found else None


def _deps(name: str, column: str) -> Iterator[dg.TableColumnDep]:
    """Yield the sources of a column; tables of malignancy are made as those of nodules."""
    is_malignancy = name.startswith(_AS_OF_NODULES)
    known = name.replace(_AS_OF_NODULES, "" if "feature" in name else "nodule_") if is_malignancy else name
    carried = _CARRIED.get(known, {}).items()
    sources: list[tuple[str, Sequence[str]]] = [(asset, [column]) for asset, names in carried if column in names]
    for pattern, computed in _COMPUTED.get(known, []):
        sources += list(computed.items()) if re.fullmatch(pattern, column) else []
    for asset, names in sources:
        if is_malignancy and asset == "zero_rule_baseline":
            continue
        own = f"{_AS_OF_NODULES}{asset}" if is_malignancy and asset == "feature_baseline" else asset
        own = own.replace("nodule_", _AS_OF_NODULES) if is_malignancy else own
        yield from (dg.TableColumnDep(dg.AssetKey(own), source) for source in names)


def shown_table(rows: "pd.DataFrame") -> dg.TableMetadataValue:
    """Return a small table as metadata, in full: floats with four digits, missing values empty."""
    records = [dg.TableRecord(dict(zip(rows.columns, map(_cell, row), strict=True))) for row in rows.to_numpy(object)]
    schema = dg.TableSchema([dg.TableColumn(str(name), "string", describe_column(str(name))) for name in rows.columns])
    return dg.MetadataValue.table(records, schema=schema)


def _cell(value: Any) -> str:
    if _is_missing(value):
        return ""
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "<NA>"
