"""The description of a data set as one HTML file, without scripts and without outside addresses."""

import base64
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

import pandas as pd

from luna_pipeline.core.quality.description import Description
from luna_pipeline.core.quality.findings import not_looked_at

_USE = '<p class="use" role="note">Research use only; not a medical device.</p>'
_SYNTHETIC = '<p class="synthetic" role="note">Synthetic data: the CTs are computed phantoms, not patients.</p>'
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# Words of narrow columns are whole; wide tables are scrolled.
_STYLE = ".scroll th, .scroll td { overflow-wrap: break-word; min-width: 4.5em; }"
_MAX_ROWS = 200
_TITLES = {
    "findings": "Problems and warnings",
    "numbers": "Numbers over the scans",
    "kinds": "Kinds of scans",
    "diameters": "Diameters of nodules",
    "readers": "Nodules by readers",
    "agreement": "Agreement of readers on ratings",
    "limits": "Limits, with reasons and sources",
    "scans": "Scans",
}
_PLOTS = {
    "histogram": ("Voxels", "Histogram of HU, padding left out; median over the scans and the range of 90 % of them."),
    "scans": ("Scans", "Spread of numbers over the scans; dashed lines are limits."),
    "nodules": ("Nodules", "Nodules of a scan, and their diameters."),
    "readers": ("Readers", "Nodules by number of readers, and agreement of their ratings."),
}
_OF_SCANS = (
    *("series_instance_uid", "data_source", "fold", "manufacturer", "kernel", "slice_spacing_mm", "slice_thickness_mm"),
    *("pixel_spacing_mm", "num_slices", "field_of_view_mm", "tube_kv", "contrast", "noise_hu", "num_nodules", "reason"),
)


def page_html(description: Description, plots: Mapping[str, bytes]) -> str:
    """Return the page; equal descriptions give equal pages.

    Args:
        description: The data set.
        plots: PNG by name, as from ``plots_of``.
    """
    title = "Quality of a data set" + (" (synthetic)" if description.is_synthetic else "")
    style = (files("luna_pipeline.core.diagnosis") / "report.css").read_text()
    tables = description.tables
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
        f"<title>{title}</title>\n<style>\n{style}{_STYLE}\n</style>\n</head>\n<body>",
        f"<header>\n<h1>{title}</h1>\n{_USE}",
        _SYNTHETIC if description.is_synthetic else "",
        f"</header>\n<main>\n{_head(description)}",
        _section("findings", tables["findings"][["level", "text"]]),
        *(_figure(name, png) for name, png in plots.items()),
        *(_section(name, tables[name]) for name in _TITLES if name in tables and name not in {"findings", "scans"}),
        _section("scans", tables["scans"][list(_OF_SCANS)]),
        f"</main>\n<footer>\n{_USE}\n</footer>\n</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _head(description: Description) -> str:
    counts = description.counts
    unread = counts["num_scans"] - counts["num_readable"]
    text = f"{counts['num_scans']} scans ({unread} unreadable), {counts['num_nodules']} nodules, "
    text += f"{counts['num_problems']} problems, {counts['num_warnings']} warnings."
    left_out = (
        "" if description.has_voxels else "<p>Voxels were not read: HU, padding, noise and copies are unknown.</p>"
    )
    if unknown := not_looked_at(description.scans):
        left_out += f"<p>{escape(unknown)}</p>"
    return f'<section aria-label="Summary">\n<p><strong>{escape(text)}</strong></p>\n{left_out}</section>'


def _section(name: str, table: pd.DataFrame) -> str:
    heading = f'<section aria-labelledby="{name}">\n<h2 id="{name}">{_TITLES[name]}</h2>\n'
    if table.empty:
        return f"{heading}<p>None.</p>\n</section>"
    more = (
        f"<p>The first {_MAX_ROWS} of {len(table)} rows; all are in {name}.csv.</p>\n" if len(table) > _MAX_ROWS else ""
    )
    head = "".join(f'<th scope="col">{escape(str(column).replace("_", " "))}</th>' for column in table.columns)
    rows = "\n".join(
        f"<tr>{''.join(f'<td>{escape(_cell(value))}</td>' for value in row)}</tr>"
        for row in table.head(_MAX_ROWS).itertuples(index=False)
    )
    body = f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'
    return f"{heading}{more}{body}\n</section>"


def _figure(name: str, png: bytes) -> str:
    title, caption = _PLOTS[name]
    uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return (
        f'<section aria-labelledby="plot-{name}">\n<h2 id="plot-{name}">{title}</h2>\n<figure><img src="{uri}" '
        f'alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>\n</section>'
    )


def _cell(value: Any) -> str:
    """Return a value as text; what is unknown is empty."""
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
