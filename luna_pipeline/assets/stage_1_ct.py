"""Stage 1: which CT series there are."""

import time
from typing import Any

import dagster as dg

from luna_pipeline.partitions import CT_SERIES_NAME
from luna_pipeline.resources import LunaPaths

GROUP = "stage_1_ct"
OWNERS = ["team:pipeline"]


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="1",
    io_manager_key="tables",
)
def ct_series(context: dg.AssetExecutionContext, paths: LunaPaths) -> dg.Output[Any]:
    """Catalogue of the CT series below the data root, a row a series.

    Source: MetaImage files and DICOM folders; headers alone are read. Form: uid, format, path relative to the data
    root, size in voxels, spacing in mm, origin and direction (LPS), subset, keyed hash of the patient, fingerprint,
    whether it is readable and why not. Registers each readable series as a partition. Size: 888 rows for LUNA16.
    """
    from luna_pipeline.core.ct.catalogue import catalogue_series

    started = time.perf_counter()
    settings = paths.settings
    catalogue = catalogue_series(settings.data_dir, patient_key=settings.patient_key())
    readable = catalogue[catalogue["is_readable"]]
    uids = sorted(readable["series_instance_uid"])
    known = set(context.instance.get_dynamic_partitions(CT_SERIES_NAME))
    context.instance.add_dynamic_partitions(CT_SERIES_NAME, [uid for uid in uids if uid not in known])
    gone = sorted(known.difference(uids))
    for row in catalogue[~catalogue["is_readable"]].itertuples():
        context.log.warning("Left out %s: %s", row.path, row.reason)
    if gone:
        context.log.warning("%d series were there before and are gone: %s", len(gone), ", ".join(gone[:5]))
    metadata: dict[str, Any] = {
        "num_series": len(uids),
        "num_unreadable": len(catalogue) - len(uids),
        "num_gone": len(gone),
        "num_bytes": int(readable["num_bytes"].sum()),
        "seconds": round(time.perf_counter() - started, 2),
        "unreadable": dg.MetadataValue.md(_as_list(catalogue[~catalogue["is_readable"]])),
    }
    return dg.Output(catalogue, metadata=metadata)


def _as_list(rows: Any) -> str:
    lines = [f"- `{row.path}`: {row.reason}" for row in rows.head(50).itertuples()]
    return "\n".join(lines) or "none"
