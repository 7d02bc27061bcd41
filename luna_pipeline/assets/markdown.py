"""Pictures and tables as Dagster's page shows them: markdown, for HTML is taken out."""

import base64
from typing import Any


def picture(png: bytes, alternative: str) -> str:
    """Return a PNG as a markdown image that needs no file beside it; keep it below 74 kB, which are 99 kB of text."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"


def table(rows: Any) -> str:
    """Return a DataFrame as a markdown table, floats with four digits."""
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
