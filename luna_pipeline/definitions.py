"""What Dagster loads: assets, checks, jobs and automation, put together."""

import dagster as dg

from luna_pipeline import alerts, automation, checks, jobs
from luna_pipeline.assets import (
    stage_1_ct,
    stage_2_candidates,
    stage_3_cutouts,
    stage_4_baselines,
    stage_4_training,
    stage_4_tuning,
    stage_5_evaluation,
    stage_5_reports,
    stage_5_scores,
)
from luna_pipeline.io_managers import CheckpointIOManager, TablesIOManager
from luna_pipeline.resources import CutoutCutting, LunaPaths, MlflowRuns, RayCluster
from luna_pipeline.runs.executor import interruptible_executor

STAGES = [
    stage_1_ct,
    stage_2_candidates,
    stage_3_cutouts,
    stage_4_training,
    stage_4_baselines,
    stage_4_tuning,
    stage_5_evaluation,
    stage_5_scores,
    stage_5_reports,
]
PATHS = LunaPaths()

defs = dg.Definitions(
    assets=dg.load_assets_from_modules(STAGES, include_specs=True),
    asset_checks=checks.CHECKS,
    jobs=jobs.JOBS,
    schedules=[automation.recut_nightly],
    sensors=[automation.inputs_changed, alerts.run_failed],
    executor=interruptible_executor,
    resources={
        "paths": PATHS,
        "cutting": CutoutCutting(paths=PATHS),
        "mlflow_runs": MlflowRuns(paths=PATHS),
        "ray": RayCluster(),
        "tables": TablesIOManager(),
        "checkpoints": CheckpointIOManager(),
    },
)
