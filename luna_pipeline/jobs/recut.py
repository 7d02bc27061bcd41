"""The job that updates tables and cutouts after an edit."""

import dagster as dg

from luna_pipeline.jobs.definition import job
from luna_pipeline.runs.nested import run_nested_job


@dg.op(out=dg.Out(dg.Nothing))
def refresh_tables(context: dg.OpExecutionContext) -> None:
    """Read catalogue and tables again."""
    run_nested_job(context, "ingest")


@dg.op(ins={"refreshed": dg.In(dg.Nothing)})
def recut(context: dg.OpExecutionContext) -> None:
    """Cut the series whose CT, candidate ids or centres changed; the files of the others are kept."""
    try:
        run_nested_job(context, "cut")
    except dg.Failure:
        # One CT that cannot be cut must not hide the new cutouts of the others.
        run_nested_job(context, "index")
        raise
    run_nested_job(context, "index")


@job
def recut_changed() -> None:
    """After an edit of tables or CTs: make new tables, and cut exactly the changed cutouts."""
    recut(refresh_tables())
