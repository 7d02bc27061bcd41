"""Re-cutting when tables or CTs change: a sensor that looks often, a schedule that looks thoroughly."""

import dagster as dg

from luna_pipeline.core.files import folder_digest, folder_glance
from luna_pipeline.jobs import recut_changed
from luna_pipeline.resources import CutoutCutting, LunaPaths

TABLE_SUFFIX = ".csv"


def _recorded_inputs(instance: dg.DagsterInstance) -> str | None:
    """The inputs' digest at the last time the candidate table was made."""
    event = instance.get_latest_materialization_event(dg.AssetKey("candidates"))
    if event is None or event.asset_materialization is None:
        return None
    entry = event.asset_materialization.metadata.get("inputs_digest")
    return str(entry.value) if entry is not None else None


def _outdated(cutting: CutoutCutting, paths: LunaPaths) -> str | None:
    """Why cutouts have to be cut again although no input changed: lost or damaged files, other parameters."""
    if not (paths.settings.tables_dir / "candidates.parquet").exists():
        return "the candidate table was never made"
    plan = cutting.service().plan()
    stale = plan[plan["state"] != "current"]
    return None if stale.empty else f"{len(stale)} series are {', '.join(sorted(set(stale['state'])))}"


@dg.sensor(job=recut_changed, minimum_interval_seconds=60, description="Re-cuts when a table or a CT was edited.")
def inputs_changed(context: dg.SensorEvaluationContext, paths: LunaPaths) -> dg.SensorResult | dg.SkipReason:
    """Compare the inputs with those that the candidate table was made from."""
    root = paths.settings.data_dir
    if not root.is_dir():
        return dg.SkipReason(f"There is no data root {root}")
    glance = folder_glance(root)
    if glance == context.cursor:
        return dg.SkipReason("No file below the data root was touched")
    digest = folder_digest(root, by_content=TABLE_SUFFIX)
    if digest == _recorded_inputs(context.instance):
        context.update_cursor(glance)
        return dg.SkipReason("Files were touched, their content is the same")
    # A failed run is not asked for again with the same key; the nightly schedule asks without one.
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=digest)], cursor=glance)


@dg.schedule(
    job=recut_changed,
    cron_schedule="0 3 * * *",
    description="Every night: cuts whatever is not as it should be.",
)
def recut_nightly(
    context: dg.ScheduleEvaluationContext, paths: LunaPaths, cutting: CutoutCutting
) -> dg.RunRequest | dg.SkipReason:
    """Compare inputs, tables and the cutout files themselves."""
    root = paths.settings.data_dir
    if not root.is_dir():
        return dg.SkipReason(f"There is no data root {root}")
    if folder_digest(root, by_content=TABLE_SUFFIX) != _recorded_inputs(context.instance):
        return dg.RunRequest()
    if reason := _outdated(cutting, paths):
        context.log.info("Cutting again: %s", reason)
        return dg.RunRequest()
    return dg.SkipReason("Tables and cutouts are as they should be")
