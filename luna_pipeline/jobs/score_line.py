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
    names = ["cpm", "cpm_lower", "cpm_upper"]
    table = read_table(settings, "nodule_froc")
    rows = table[table["model"] == "nodule_classifier"].to_dict("records")
    values = {name: float(rows[0][name]) for name in names} if rows else {}
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    if "cpm" not in known:
        return f"CPM undefined: no nodule is annotated in the pooled scans ({data}; research use only)", about
    folds = str(rows[0]["folds"])
    interval = f" [{known['cpm_lower']:.3f}, {known['cpm_upper']:.3f}]" if len(known) == len(values) else ""
    # Tables of earlier versions have no notes.
    note = str(rows[0].get("notes") or "")
    words = "; ".join(filter(None, [data, note, "research use only"]))
    notes = f"{note.capitalize()}. {about['notes']}" if note else about["notes"]
    line = f"CPM {known['cpm']:.3f}{interval} of nodule_classifier, {folds} ({words})"
    return line, {**known, "folds": folds, **about, "notes": notes}
