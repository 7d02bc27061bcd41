"""Pictures and tables as markdown for Dagster's pages, which remove HTML."""

import base64
from typing import Any


def picture(png: bytes, alternative: str) -> str:
    """Return a PNG as an inline markdown image. It should be smaller than 74 kB (99 kB of text)."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"


def table(rows: Any) -> str:
    """Return a DataFrame as a markdown table, floats with four digits."""
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
