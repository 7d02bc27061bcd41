"""Pictures in Dagster's metadata."""

import base64


def as_markdown(png: bytes, alternative: str) -> str:
    """Return a PNG as a markdown image that needs no file beside it; keep it below 100 kB."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"
