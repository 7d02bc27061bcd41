"""Stage 1: the catalogue of CT series."""

import time
from typing import Any

import dagster as dg

from luna_pipeline.assets.data_versions import versioned
from luna_pipeline.partitions import gone_series, register_series
from luna_pipeline.resources import LunaPaths

GROUP = "stage_1_ct"
OWNERS = ["team:pipeline"]


@dg.asset(
    pool="disk", group_name=GROUP, owners=OWNERS, kinds={"python", "parquet"}, code_version="1", io_manager_key="tables"
)
def ct_series(context: dg.AssetExecutionContext, paths: LunaPaths) -> dg.Output[Any]:
    """Catalogue of the CT series below the data root, one row per series.

    Source: headers of image files and DICOM folders. Form: uid, format, path relative to the data root, size in
    voxels, spacing in mm, origin and direction (LPS), subset, keyed hash of the patient, fingerprint, readable or the
    reason why not. Registers each readable series as a partition; a series whose CT was removed stays registered
    until `luna prune`. Size: 888 rows for LUNA16.
    """
    from luna_pipeline.core.storage.files import folder_digest
    from luna_pipeline.launchers.cutting import catalogue_of
    from luna_pipeline.launchers.installation import cutout_store

    started = time.perf_counter()
    settings = paths.settings
    # The digest is taken first, so that a CT that arrives meanwhile counts as a change.
    inputs = folder_digest(settings.data_dir, by_content=".csv")
    catalogue, num_kept = catalogue_of(settings)
    readable = catalogue[catalogue["is_readable"]]
    register_series(context.instance, readable["series_instance_uid"])
    gone = gone_series(context.instance, catalogue, cutout_store(settings))
    for row in catalogue[~catalogue["is_readable"]].itertuples():
        context.log.warning("Left out %s: %s", row.path, row.reason)
    for row in catalogue[catalogue["notes"].notna()].itertuples():
        context.log.info("Note on %s: %s", row.path, row.notes)
    for uid in gone:
        context.log.warning("The CT of series %s is gone; its cutouts are kept until `luna prune`.", uid)
    metadata: dict[str, Any] = {
        "num_series": len(readable),
        "num_unreadable": len(catalogue) - len(readable),
        "num_kept": num_kept,
        "num_gone": len(gone),
        "gone": dg.MetadataValue.json(gone),
        "num_bytes": int(readable["num_bytes"].sum()),
        "inputs_digest": inputs,
        "seconds": round(time.perf_counter() - started, 2),
        "unreadable": dg.MetadataValue.md(_as_list(catalogue[~catalogue["is_readable"]])),
    }
    return versioned(catalogue, metadata)


def _as_list(rows: Any) -> str:
    lines = [f"- `{row.path}`: {row.reason}" for row in rows.head(50).itertuples()]
    return "\n".join(lines) or "none"
