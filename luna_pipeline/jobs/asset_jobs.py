"""One job a piece of the chain that shares its partitions."""

import dagster as dg

from luna_pipeline.runs.executor import interruptible_executor

ingest = dg.define_asset_job(
    "ingest",
    selection=["annotations", "candidates_v2", "malignancy_ratings", "ct_series", "candidates", "rejected", "folds"],
    description="Catalogue the CT series, look at LUNA16's tables, and make the candidate table and the folds.",
    executor_def=interruptible_executor,
)
cut = dg.define_asset_job(
    "cut",
    selection=["cutouts"],
    description="Cut what is missing, damaged or changed: all registered series, or those of the partition tag.",
    executor_def=interruptible_executor,
)
index = dg.define_asset_job(
    "index",
    selection=["cutout_index"],
    description="Make the table that finds each candidate's cutout.",
    executor_def=interruptible_executor,
)
promote = dg.define_asset_job(
    "promote",
    selection=["champion"],
    description="Hold the best network of the leaderboard against MLflow's champion, and promote it by the rule.",
    executor_def=interruptible_executor,
)
ASSET_JOBS = [ingest, cut, index, promote]
