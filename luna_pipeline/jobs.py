"""Jobs: one for each piece of the chain, and some that run pieces in turn, each as a run of its own."""

import contextlib
import os
from typing import Any

import dagster as dg
from pydantic import Field

from luna_pipeline.executors import interruptible_executor
from luna_pipeline.fold_jobs import FOLD_JOBS
from luna_pipeline.settings import Settings, demo_environment
from luna_pipeline.turns import run_in_turn

IN_PROCESS = interruptible_executor

ingest = dg.define_asset_job(
    "ingest",
    selection=["annotations", "candidates_v2", "malignancy_ratings", "ct_series", "candidates", "rejected", "folds"],
    description="Catalogue the CT series, look at LUNA16's tables, and make the candidate table and the folds.",
    executor_def=IN_PROCESS,
)
cut = dg.define_asset_job(
    "cut",
    selection=["cutouts"],
    description="Cut what is missing, damaged or changed: all registered series, or those of the partition tag.",
    executor_def=IN_PROCESS,
)
index = dg.define_asset_job(
    "index",
    selection=["cutout_index"],
    description="Make the table that finds each candidate's cutout.",
    executor_def=IN_PROCESS,
)
promote = dg.define_asset_job(
    "promote",
    selection=["champion"],
    description="Hold the best network of the leaderboard against MLflow's champion, and promote it by the rule.",
    executor_def=IN_PROCESS,
)
ASSET_JOBS = [ingest, cut, index, promote]


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
    from luna_pipeline.core.ct.phantom_root import ensure_phantom

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
            run_in_turn(context, job_name, config_of(changes) if config_of else None)
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
    from luna_pipeline.summary import summary_of

    with _demo_folders() as settings:
        context.log.info("The demo is done. What it made:\n%s", summary_of(context.instance, settings))


@dg.job(
    executor_def=IN_PROCESS,
    description="Everything on the synthetic phantom, from raw CT to the scored test fold.",
)
def demo() -> None:
    """Phantom, ingest, cut, train, evaluate, one after the other."""
    summarize(demo_evaluate(demo_train(demo_cut(demo_ingest(make_phantom_data())))))


@dg.op
def refresh_tables(context: dg.OpExecutionContext) -> dict[str, Any]:
    """Read catalogue and tables again."""
    run_in_turn(context, "ingest")
    return {}


@dg.op
def recut(context: dg.OpExecutionContext, changes: dict[str, Any]) -> None:
    """Cut the series whose CT, candidate ids or centres changed; the others' files are adopted as they are."""
    try:
        run_in_turn(context, "cut")
    except dg.Failure:
        # One CT that cannot be cut shall not hide what the others have become.
        run_in_turn(context, "index")
        raise
    run_in_turn(context, "index")


@dg.job(
    executor_def=IN_PROCESS,
    description="After an edit of tables or CTs: new tables, and exactly the changed cutouts.",
)
def recut_changed() -> None:
    """Ingest, then cut what changed."""
    recut(refresh_tables())


JOBS: list[Any] = [*ASSET_JOBS, *FOLD_JOBS, demo, recut_changed]
