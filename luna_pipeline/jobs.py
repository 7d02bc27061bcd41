"""Jobs: one for each piece of the chain, and two that run pieces in turn, each as a run of its own."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from luna_pipeline.executors import interruptible_executor
from luna_pipeline.settings import Settings, demo_environment

IN_PROCESS = interruptible_executor
PARENT_TAG = "luna/parent_run_id"

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
train_nodule_classifier = dg.define_asset_job(
    "train_nodule_classifier",
    selection=["cutout_index", "nodule_classifier", "zero_rule_baseline", "feature_baseline"],
    description="Index the cutouts, train on all folds but the held-out ones.",
    executor_def=IN_PROCESS,
)
train_malignancy_classifier = dg.define_asset_job(
    "train_malignancy_classifier",
    selection=["cutout_index", "malignancy_classifier", "malignancy_feature_baseline"],
    description="Index the cutouts, train on the rated nodules of all folds but the held-out ones.",
    executor_def=IN_PROCESS,
)
evaluate = dg.define_asset_job(
    "evaluate",
    selection=["nodule_predictions", "nodule_report"],
    description="Score the test fold and report.",
    executor_def=IN_PROCESS,
)
ASSET_JOBS = [ingest, cut, index, train_nodule_classifier, train_malignancy_classifier, evaluate]


def job_named(name: str) -> dg.JobDefinition:
    """Look a job up where the parts are put together."""
    from luna_pipeline.definitions import defs

    return defs.resolve_job_def(name)


def run_in_turn(context: dg.OpExecutionContext, job_name: str, run_config: Mapping[str, Any] | None = None) -> None:
    """Run a job of this code location to its end, as a run of its own on the same instance.

    A partitioned and an unpartitioned asset, or assets of two partitions definitions, cannot share an asset job; runs
    one after the other can.

    Raises:
        dg.DagsterExecutionInterruptedError: If the run was interrupted.
        dg.Failure: If the run failed, or if it skipped an asset that it should have made.
    """
    result = dg.execute_job(
        dg.build_reconstructable_job(__name__, job_named.__name__, (job_name,)),
        instance=context.instance,
        run_config=dict(run_config or {}),
        tags={PARENT_TAG: context.run_id},
        raise_on_error=False,
    )
    run = context.instance.get_run_by_id(result.run_id)
    if run is not None and run.status == dg.DagsterRunStatus.CANCELED:
        # The interrupt that ended the inner run was meant for all.
        raise dg.DagsterExecutionInterruptedError
    if not result.success:
        reasons = [_reason(event) for event in result.all_events if event.is_step_failure]
        raise dg.Failure(f"Run {result.run_id} of `{job_name}` failed: {'; '.join(reasons) or 'see its log'}")
    skipped = [event.step_key for event in result.all_events if event.event_type_value == "STEP_SKIPPED"]
    if skipped:
        raise dg.Failure(f"Run {result.run_id} of `{job_name}` must make all its assets, got {skipped} skipped.")


def _reason(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return f"{event.step_key}: {error.message.strip() if error else 'unknown'}"


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


JOBS: list[Any] = [*ASSET_JOBS, demo, recut_changed]
