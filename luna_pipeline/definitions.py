"""What Dagster loads: assets, checks, jobs and automation."""

import dagster as dg

from luna_pipeline import assets, automation, checks, jobs, quality_checks
from luna_pipeline.alerts.sensor import run_failed
from luna_pipeline.asset_links import linked
from luna_pipeline.incoming import incoming_changed
from luna_pipeline.io_managers import CheckpointIOManager, ScoredFoldsIOManager, TablesIOManager
from luna_pipeline.jobs.maintenance import prune_runs_weekly
from luna_pipeline.resources import CutoutCutting, LunaPaths, MlflowRuns, RayCluster
from luna_pipeline.runs.executor import interruptible_executor
from luna_pipeline.runs.launch_checks import check_at_launch

PATHS = LunaPaths()
ASSETS = linked(dg.load_assets_from_package_module(assets, include_specs=True))
RESOURCES = {
    "paths": PATHS,
    "cutting": CutoutCutting(paths=PATHS),
    "mlflow_runs": MlflowRuns(paths=PATHS),
    "ray": RayCluster(),
    "tables": TablesIOManager(),
    "scores": ScoredFoldsIOManager(),
    "checkpoints": CheckpointIOManager(),
}

check_at_launch([*ASSETS, *jobs.JOBS], RESOURCES)
defs = dg.Definitions(
    assets=ASSETS,
    asset_checks=[*checks.CHECKS, *quality_checks.CHECKS],
    jobs=jobs.JOBS,
    schedules=[automation.recut_nightly, prune_runs_weekly],
    sensors=[automation.inputs_changed, incoming_changed, run_failed],
    executor=interruptible_executor,
    resources=RESOURCES,
)
