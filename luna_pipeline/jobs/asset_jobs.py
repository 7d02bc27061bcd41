"""Asset jobs: each materializes assets that share their partitions."""

from functools import partial

import dagster as dg

from luna_pipeline.assets.sources import SOURCE_TABLES
from luna_pipeline.runs.executor import interruptible_executor

_job = partial(dg.define_asset_job, executor_def=interruptible_executor)

ASSET_JOBS = [
    _job(
        "ingest",
        [*SOURCE_TABLES, "ct_series", "candidates", "rejected", "folds"],
        description="Catalogue the CT series, and make the candidate table and the folds from LUNA16's tables.",
    ),
    _job(
        "cut",
        ["cutouts"],
        description="Cut missing, damaged or outdated cutouts: of all registered series, or of the partition tag's.",
    ),
    _job("index", ["cutout_index"], description="Make the table that locates the cutout of each candidate."),
    _job(
        "promote",
        ["champion"],
        description="Compare the best network of the leaderboard with MLflow's champion, and promote it by the rule.",
    ),
]
