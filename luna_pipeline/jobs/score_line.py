"""The official score of the nodule classifier in one line, with which the job ``evaluate`` ends."""

import math
from typing import Any

from luna_pipeline.core.storage.files import exists
from luna_pipeline.settings import Settings


def score_line(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Return the CPM of the pooled test folds as a line and as metadata; without annotations there is none."""
    from luna_pipeline.launchers.installation import read_table

    data = settings.kind_of_data
    about = {"data": data, "notes": "Research use only."}
    if not exists(settings.tables_dir / "nodule_froc.parquet"):
        return f"No nodule classifier was scored ({data}; research use only)", about
    names = ["model", "folds", "cpm", "cpm_lower", "cpm_upper"]
    table = read_table(settings, "nodule_froc", columns=names)
    rows = table[table["model"] == "nodule_classifier"].to_dict("records")
    values = {name: float(rows[0][name]) for name in names[2:]} if rows else {}
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    if "cpm" not in known:
        return f"CPM undefined: no nodule is annotated in the pooled scans ({data}; research use only)", about
    folds = str(rows[0]["folds"])
    interval = f" [{known['cpm_lower']:.3f}, {known['cpm_upper']:.3f}]" if len(known) == len(values) else ""
    line = f"CPM {known['cpm']:.3f}{interval} of nodule_classifier, {folds} ({data}; research use only)"
    return line, {**known, "folds": folds, **about}
