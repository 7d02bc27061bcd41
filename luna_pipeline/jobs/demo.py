"""The demo: all stages on a synthetic data set, each as a separate run."""

import contextlib
import os
from typing import Annotated, Any

import dagster as dg
from pydantic import Field

from luna_pipeline.core.training.recipes import demo as demo_recipe
from luna_pipeline.core.training.recipes import demo_segmenter
from luna_pipeline.jobs.definition import job
from luna_pipeline.runs.nested import run_nested_job
from luna_pipeline.settings import Settings, demo_environment


@contextlib.contextmanager
def demo_folders() -> Any:
    """Use the demo's folders within the block, unless the environment names others."""
    added = demo_environment(os.environ)
    os.environ.update(added)
    try:
        yield Settings.from_environment()
    finally:
        for name in added:
            os.environ.pop(name, None)


class DemoConfig(dg.Config):
    """Size of the demo; with the defaults it takes four minutes on two cores."""

    num_series: int = Field(default=36, ge=1, description="Number of synthetic CT series.")
    num_subsets: int = Field(default=5, ge=1, description="Number of subset folders, which are the folds.")
    seed: int = Field(default=0, ge=0, description="Seed of the synthetic data and of the training.")
    size_irc: list[Annotated[int, Field(ge=1)]] = Field(
        default=[64, 160, 160],
        min_length=3,
        max_length=3,
        description="Size of each CT in voxels: slices, rows, columns.",
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        description=f"Number of epochs. Default: the recipe's (demo {demo_recipe().num_epochs}, demo_segmenter "
        f"{demo_segmenter().num_epochs}).",
    )


@dg.op
def make_phantom_data(context: dg.OpExecutionContext, config: DemoConfig) -> dict[str, Any]:
    """Write the synthetic data set unless it exists; other data are never overwritten."""
    from luna_pipeline.core.phantom.dataset import ensure_phantom

    size = {**config.model_dump(exclude={"epochs"}), "size_irc": tuple(config.size_irc)}
    with demo_folders() as settings:
        ensure_phantom(settings.data_dir, **size, report=context.log.info)
    return {"seed": config.seed} | ({"epochs": config.epochs} if config.epochs else {})


def run_stage(
    context: dg.OpExecutionContext, job_name: str, op: str = "", config: dict[str, Any] | None = None
) -> None:
    """Run a job to its end; ``config`` is the configuration of its op ``op``."""
    run_nested_job(context, job_name, {"ops": {op: {"config": config}}} if op else {})


def _stage(job_name: str, *, name: str) -> Any:
    @dg.op(name=name, description=f"Run the job `{job_name}` to its end.")
    def run(context: dg.OpExecutionContext, changes: dict[str, Any]) -> dict[str, Any]:
        with demo_folders():
            if "train" in job_name:
                run_stage(context, job_name, "nodule_classifier", {"recipe": "demo", **changes})
            else:
                run_stage(context, job_name)
        return changes

    return run


STAGES = [
    _stage("ingest", name="ingest_phantom"),
    _stage("cut", name="cut_phantom"),
    _stage("train_nodule_classifier", name="train_on_phantom"),
    _stage("evaluate", name="evaluate_on_phantom"),
]


@dg.op
def summarize(context: dg.OpExecutionContext, changes: dict[str, Any]) -> None:
    """Print the results with counts, seconds, scores and paths."""
    from luna_pipeline.jobs.demo_summary import summary_of

    with demo_folders() as settings:
        context.log.info("The demo is done. What it made:\n%s", summary_of(context.instance, settings))


@job
def demo() -> None:
    """Everything on the synthetic phantom, from raw CT to the scored test fold."""
    changes = make_phantom_data()
    for stage in STAGES:
        changes = stage(changes)
    summarize(changes)
