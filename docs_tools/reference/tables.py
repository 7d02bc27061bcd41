"""The page of tables and files."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from docs_tools.markdown import code, plain, table
from docs_tools.reference.assets import graph
from luna_pipeline.core.candidates.submission import SUBMISSION_COLUMNS
from luna_pipeline.core.cutouts.series_cutouts import ARRAYS
from luna_pipeline.core.storage.columns import COLUMNS, describe_column
from luna_pipeline.core.storage.tables import TABLES

_SCHEMAS = Path(__file__).resolve().parents[2] / "luna_pipeline/core/diagnosis"
# What lies below LUNA_HOME besides the tables.
FILES = {
    "tables/NAME.parquet": "A table, see below; `tables/NAME/FOLD.parquet` for assets with a partition per test fold.",
    "cutouts/UID.npz": "Cutouts of one CT series, see below.",
    "checkpoints/NAME/VERSION/best.pt": "A trained model: weights, optimizer, epoch, configuration, fingerprints of "
    "the data. `luna_pipeline.core.training.checkpoints` reads it.",
    "submissions/NAME/FOLDS.csv": "Scores in LUNA16's form, see below.",
    "tuning/NAME/VERSION/": "A study: its note, one file per trial, pictures.",
    "diagnoses/UID/": "Outputs of a diagnosis, see below.",
    "source_tables/": "Tables in LUNA16's form, made from other data sources.",
    "service/": "Jobs and uploads of `luna serve`.",
    "mlflow.db, mlartifacts/": "MLflow's database and artifacts, unless `MLFLOW_TRACKING_URI` names others.",
    "tensorboard/": "TensorBoard's logs.",
    "patient_key": "Secret key of the patients' hashes; readable by its owner only.",
}
MEMBERS = {
    "ct_chunks": ("int16 (N, I, R, C)", "Voxels of the N cutouts in HU, clipped to the window."),
    "center_irc": ("int32 (N, 3)", "Voxel of each candidate in the CT: slice, row, column, from 0."),
    "center_xyz": ("float64 (N, 3)", "World position of each candidate in mm, LPS."),
    "candidate_id": ("int64 (N,)", "Number of each candidate in the candidate table."),
    "header": (
        "uint8",
        "JSON: series, shape, window, spacing, and the fingerprints that decide whether it is cut again.",
    ),
}
_SIGNS = {"greater_than_or_equal_to": "≥", "greater_than": ">", "less_than_or_equal_to": "≤"}
_KINDS = {"str": "text", "object": "text", "category": "text", "bool": "true or false", "boolean": "true or false"}


def page() -> str:
    """Return the page."""
    lines = [
        "# Tables and files",
        "",
        "Every table and file that the project writes below `LUNA_HOME`: columns or members, types, units, meaning. "
        "World positions are LPS millimetres (`_mm`, `_xyz`), voxels are slice, row, column (`_irc`), values are "
        "Hounsfield units (`_hu`). Shares and scores are from 0 to 1. A name means the same in every table.",
        "",
        "## Files below LUNA_HOME",
        "",
        *table(("file", "holds"), ((code(name), text) for name, text in FILES.items())),
        "Read a table with `pandas.read_parquet`. Files are written under a temporary name and renamed: a file that is "
        "there is complete.",
        "",
        "## Tables",
        "",
        "These columns are checked when a table is written. A table may have further ones, see the list of "
        "[all columns](#all-columns).",
        "",
    ]
    lines += [line for name in TABLES for line in _table_section(name)]
    lines += [*_other_tables(), *_all_columns(), *_cutout_file(), *_submission(), *_diagnosis()]
    return "\n".join(lines)


def _table_section(name: str) -> Iterator[str]:
    same = next(other for other, schema in TABLES.items() if schema is TABLES[name])
    yield f"### {name}"
    yield ""
    descriptions = {it.key.to_user_string(): it.description for it in graph().asset_nodes}
    if text := descriptions.get(name):
        yield plain(text.partition("\n\n")[0])
        yield ""
    if same != name:
        yield f"It has the columns of [{same}](#{same})."
        yield ""
        return
    columns = TABLES[name].columns.items()
    yield from table(("column", "meaning", "type", "rule"), (_column(each, column) for each, column in columns))


def _column(name: str, column: Any) -> tuple[str, ...]:
    rules = [_rule(check) for check in column.checks]
    rules += ["unique"] * column.unique + ["may be null"] * column.nullable
    kind = str(column.dtype or "text")
    return code(name), describe_column(name) or "", _KINDS.get(kind, kind.lower()), ", ".join(rules)


def _rule(check: Any) -> str:
    """Return the rule of a check in words."""
    values = check.statistics or {}
    if "allowed_values" in values:
        return "one of " + ", ".join(code(it) for it in values["allowed_values"])
    if check.name == "in_range":
        return f"{values['min_value']:g} to {values['max_value']:g}"
    if check.name in _SIGNS:
        return f"{_SIGNS[check.name]} {values['min_value']:g}"
    return "not empty" if check.name == "str_length" else str(check.error)


def _other_tables() -> list[str]:
    """Return the tables whose columns no schema checks: what their assets say of their form."""
    rows = []
    for node in sorted(graph().asset_nodes, key=lambda it: it.key.to_user_string()):
        name, form = node.key.to_user_string(), plain(node.description).replace("\n\n", " ").partition("Form: ")[2]
        if form and name not in TABLES and "parquet" in node.kinds | {"parquet"} and "`checkpoints/" not in form:
            rows.append((code(name), form))
    return [
        "## Other tables",
        "",
        "Assets whose columns are not checked, in their own words; the columns are in the list below.",
        "",
        *table(("asset", "form"), rows),
    ]


def _all_columns() -> list[str]:
    rows = ((code(name), text) for name, text in sorted(COLUMNS.items()))
    return [
        "## All columns",
        "",
        "By name. The ends `_lower` and `_upper` are those of a 95 % interval (bootstrap); `sensitivity_at_N` is the "
        "sensitivity at N false positives per scan.",
        "",
        *table(("column", "meaning"), rows),
    ]


def _cutout_file() -> list[str]:
    return [
        "## Cutout file",
        "",
        "`cutouts/UID.npz` holds the cutouts of one CT series, uncompressed. NumPy reads it: "
        "`numpy.load(path)['ct_chunks']`. Labels are not in it: a new label does not require cutting again.",
        "",
        *table(("member", "type", "meaning"), ((code(it), *MEMBERS[it]) for it in (*ARRAYS, "header"))),
    ]


def _submission() -> list[str]:
    rows = ((code(written), describe_column(name) or "") for name, written in SUBMISSION_COLUMNS.items())
    return [
        "## Submission",
        "",
        "`submissions/NAME/FOLDS.csv`, and what `luna predict` writes: LUNA16's form, one row per finding, with a "
        "header.",
        "",
        *table(("column", "meaning"), rows),
    ]


def _diagnosis() -> list[str]:
    lines = [
        "## Diagnosis",
        "",
        "Outputs of `luna diagnose` and of the asset `diagnosis`; [diagnose](../how_to/diagnose.md#outputs) lists "
        "the files. Research use only; not a medical device. The two JSON files have schemas in the package, "
        "`luna_pipeline/core/diagnosis`.",
        "",
    ]
    for name in ("nodules", "diagnosis"):
        schema = json.loads((_SCHEMAS / f"{name}.schema.json").read_text())
        parts = schema.get("$defs", {})
        lines += [f"### {name}.json", "", schema["description"], ""]
        if "properties" in schema:
            lines += _members(schema["properties"])
        for part, its in parts.items():
            if "properties" in its:
                lines += [f"Members of `{part}`:", "", *_members(its["properties"])]
    return lines


def _members(properties: Mapping[str, Any]) -> list[str]:
    return table(("member", "type", "meaning"), rows_of(properties))


def rows_of(properties: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, ...]]:
    """Yield name, type and meaning of the members of a JSON object, those of inner objects by their paths."""
    for name, member in properties.items():
        constant = f"Always “{member['const']}”." if "const" in member else ""
        yield code(f"{prefix}{name}"), _json_kind(member), member.get("description", constant)
        yield from rows_of(member.get("properties", {}), f"{prefix}{name}.")


def _json_kind(member: Mapping[str, Any]) -> str:
    if "$ref" in member:
        return str(member["$ref"]).rpartition("/")[2]
    if "anyOf" in member:
        return " or ".join(map(_json_kind, member["anyOf"]))
    kinds = member.get("type", "text")
    kind = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    inner = f" of {_json_kind(member['items'])}" if "items" in member else ""
    return f"{kind}{inner}"
