"""The demo: every stage on a synthetic data set, each as a run of its own."""

import contextlib
import os
from typing import Any

import dagster as dg
from pydantic import Field

from luna_pipeline.runs.executor import interruptible_executor
from luna_pipeline.runs.nested import run_nested_job
from luna_pipeline.settings import Settings, demo_environment


@contextlib.contextmanager
def _demo_folders() -> Any:
    """Let everything inside work in the demo's folders, unless the environment names others."""
    added = demo_environment(os.environ)
    os.environ.update(added)
    try:
        yield Settings.from_environment()
    finally:
        for name in added:
            os.environ.pop(name, None)


class DemoConfig(dg.Config):
    """Size of the demo; the defaults fit four minutes on two cores."""

    num_series: int = 36
    num_subsets: int = 5
    seed: int = 0
    size_irc: list[int] = Field(default=[64, 160, 160], description="Voxels of each CT.")
    epochs: int | None = None


@dg.op
def make_phantom_data(context: dg.OpExecutionContext, config: DemoConfig) -> dict[str, Any]:
    """Write the synthetic data set, unless it is there; data of somebody else are never touched."""
    from luna_pipeline.core.phantom.dataset import ensure_phantom

    with _demo_folders() as settings:
        ensure_phantom(
            settings.data_dir,
            num_series=config.num_series,
            num_subsets=config.num_subsets,
            seed=config.seed,
            size_irc=(config.size_irc[0], config.size_irc[1], config.size_irc[2]),
            report=context.log.info,
        )
    return {"seed": config.seed} | ({"epochs": config.epochs} if config.epochs else {})


def _stage(name: str, job_name: str, config_of: Any = None) -> Any:
    @dg.op(name=name, description=f"Run the job `{job_name}` to its end.")
    def run_stage(context: dg.OpExecutionContext, changes: dict[str, Any]) -> dict[str, Any]:
        with _demo_folders():
            run_nested_job(context, job_name, config_of(changes) if config_of else None)
        return changes

    return run_stage


def _training_config(changes: dict[str, Any]) -> dict[str, Any]:
    return {"ops": {"nodule_classifier": {"config": {"recipe": "demo", **changes}}}}


demo_ingest = _stage("ingest_phantom", "ingest")
demo_cut = _stage("cut_phantom", "cut")
demo_train = _stage("train_on_phantom", "train_nodule_classifier", _training_config)
demo_evaluate = _stage("evaluate_on_phantom", "evaluate")


@dg.op
def summarize(context: dg.OpExecutionContext, changes: dict[str, Any]) -> None:
    """Print what was made, with counts, seconds, scores and places."""
    from luna_pipeline.jobs.demo_summary import summary_of

    with _demo_folders() as settings:
        context.log.info("The demo is done. What it made:\n%s", summary_of(context.instance, settings))


@dg.job(
    executor_def=interruptible_executor,
    description="Everything on the synthetic phantom, from raw CT to the scored test fold.",
)
def demo() -> None:
    """Phantom, ingest, cut, train, evaluate, one after the other."""
    summarize(demo_evaluate(demo_train(demo_cut(demo_ingest(make_phantom_data())))))
