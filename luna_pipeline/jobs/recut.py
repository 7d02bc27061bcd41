"""Re-read the tables and cut the series that changed."""

from typing import Any

import dagster as dg

from luna_pipeline.runs.executor import interruptible_executor
from luna_pipeline.runs.nested import run_nested_job


@dg.op
def refresh_tables(context: dg.OpExecutionContext) -> dict[str, Any]:
    """Read catalogue and tables again."""
    run_nested_job(context, "ingest")
    return {}


@dg.op
def recut(context: dg.OpExecutionContext, changes: dict[str, Any]) -> None:
    """Cut the series whose CT, candidate ids or centres changed; the others' files are adopted as they are."""
    try:
        run_nested_job(context, "cut")
    except dg.Failure:
        # One CT that cannot be cut shall not hide what the others have become.
        run_nested_job(context, "index")
        raise
    run_nested_job(context, "index")


@dg.job(
    executor_def=interruptible_executor,
    description="After an edit of tables or CTs: new tables, and exactly the changed cutouts.",
)
def recut_changed() -> None:
    """Ingest, then cut what changed."""
    recut(refresh_tables())
