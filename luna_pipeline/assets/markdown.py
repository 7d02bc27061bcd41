"""Pictures as markdown for Dagster's pages, which remove HTML."""

import base64


def picture(png: bytes, alternative: str) -> str:
    """Return a PNG as an inline markdown image. It should be smaller than 74 kB (99 kB of text)."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"
