"""Files of a description: CSV tables, one JSON, PNG plots, one HTML page."""

import json
from pathlib import Path

from luna_pipeline.core.quality.description import Description, as_json
from luna_pipeline.core.quality.page import page_html
from luna_pipeline.core.quality.plots import plots_of
from luna_pipeline.core.storage.files import write_bytes

PAGE, JSON = "data_quality.html", "data_quality.json"


def write_description(folder: Path, description: Description) -> Path:
    """Write the files of a description atomically, each for itself; those of an earlier one are replaced or removed.

    Args:
        folder: The folder, which is made.
        description: The data set.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = plots_of(description)
    content = {f"{name}.csv": table.to_csv(index=False).encode() for name, table in description.tables.items()}
    content |= {f"{name}.png": png for name, png in plots.items()}
    content[JSON] = json.dumps(as_json(description), indent=1, allow_nan=False).encode()
    content[PAGE] = page_html(description, plots).encode()
    for name in ("diameters.csv", "readers.csv", "agreement.csv", "histogram.png", "nodules.png", "readers.png"):
        if name not in content:
            (folder / name).unlink(missing_ok=True)
    for name, value in content.items():
        write_bytes(folder / name, value)
    return folder / PAGE
