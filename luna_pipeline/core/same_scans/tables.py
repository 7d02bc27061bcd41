"""Tables of the search: suspected pairs that were compared, and the pairs of the same scan among them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from luna_pipeline.core.same_scans.pairs import DIFFERENT, NOT_COMPARED, Finding
from luna_pipeline.core.same_scans.scan_files import ScanFile
from luna_pipeline.core.same_scans.signatures import RULES

EVIDENCE_COLUMNS = (
    *("kind", "share_equal", "num_compared", "covered_a", "covered_b", "correlation", "num_anchors"),
    *("axes", "offset_irc"),
)
COMPARISON_COLUMNS = ("fingerprint_a", "fingerprint_b", "rules", *EVIDENCE_COLUMNS)
SAME_SCANS_COLUMNS = (
    *("series_a", "series_b", "source_a", "source_b", *EVIDENCE_COLUMNS, "fingerprint_a", "fingerprint_b"),
)


def comparison_row(first: ScanFile, second: ScanFile, finding: Finding) -> dict[str, Any]:
    """Return a compared pair as a row of ``scan_comparisons``; scan a of a block is the block."""
    one, other = (second, first) if finding.is_swapped else (first, second)
    ends = {"fingerprint_a": one.fingerprint, "fingerprint_b": other.fingerprint, "rules": RULES}
    return ends | finding.as_row()


def comparisons_of_table(table: pd.DataFrame | None) -> dict[frozenset[str], dict[str, Any]]:
    """Return the rows of ``scan_comparisons`` by their two fingerprints; those of earlier rules are left out."""
    if table is None or not set(COMPARISON_COLUMNS) <= set(table.columns):
        return {}
    rows = table.loc[table["rules"] == RULES, list(COMPARISON_COLUMNS)].to_dict("records")
    return {frozenset((str(row["fingerprint_a"]), str(row["fingerprint_b"]))): _named(row) for row in rows}


def comparisons_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return compared pairs as a table."""
    frame = pd.DataFrame(list(rows), columns=list(COMPARISON_COLUMNS))
    return frame.astype({"rules": "int64"} | _evidence_types())


def same_scans_table(pairs: Iterable[tuple[ScanFile, ScanFile, Mapping[str, Any]]]) -> pd.DataFrame:
    """Return the pairs of the same scan, a row each, sorted by series.

    Args:
        pairs: Two scans, in any order, and their row of ``scan_comparisons``; different ones are left out.
    """
    found = []
    for first, second, row in pairs:
        if row["kind"] != DIFFERENT:
            one, other = (first, second) if row["fingerprint_a"] == first.fingerprint else (second, first)
            ends = {"series_a": one.name, "series_b": other.name}
            sources = {"source_a": one.data_source, "source_b": other.data_source}
            found.append({**row, **ends, **sources})
    frame = pd.DataFrame(found, columns=list(SAME_SCANS_COLUMNS)).astype(_evidence_types())
    return frame.sort_values(["series_a", "series_b"], ignore_index=True)


def with_not_compared(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Return the table with a row for each scan that could not be read or compared: ``series_b`` is empty.

    Args:
        table: As from ``same_scans_table``.
        names: Names of these scans.
    """
    empty = {**dict.fromkeys(("series_b", "axes", "fingerprint_a", "fingerprint_b"), ""), "kind": NOT_COMPARED}
    rows = [{**empty, "series_a": name, "num_compared": 0, "num_anchors": 0} for name in sorted(names)]
    frame = pd.DataFrame([*table.to_dict("records"), *rows], columns=list(SAME_SCANS_COLUMNS))
    # A missing source is None in all rows.
    texts = {name: frame[name].astype(object).where(frame[name].notna(), None) for name in ("source_a", "source_b")}
    return frame.assign(**texts).astype(_evidence_types())


def _named(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row as it was written: parquet returns lists as arrays."""
    offset = row["offset_irc"]
    return {str(name): value for name, value in row.items()} | {
        "offset_irc": None if offset is None else [int(at) for at in offset]
    }


def _evidence_types() -> dict[str, str]:
    floats = ("share_equal", "covered_a", "covered_b", "correlation")
    return {**dict.fromkeys(floats, "float64"), "num_compared": "int64", "num_anchors": "int64"}
