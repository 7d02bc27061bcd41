"""Dagster jobs: one per step of the pipeline, and jobs that run several steps one after the other."""

from typing import Any

from luna_pipeline.jobs.asset_jobs import ASSET_JOBS
from luna_pipeline.jobs.demo import demo
from luna_pipeline.jobs.demo_diagnosis import demo_diagnosis
from luna_pipeline.jobs.fold_jobs import FOLD_JOBS
from luna_pipeline.jobs.maintenance import prune_runs
from luna_pipeline.jobs.recut import recut_changed

JOBS: list[Any] = [*ASSET_JOBS, *FOLD_JOBS, demo, demo_diagnosis, recut_changed, prune_runs]
