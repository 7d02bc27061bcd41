"""The executor: an interrupt cancels the run, an error does not."""

import time
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext

from luna_pipeline.runs.executor import InterruptibleExecutor


@dg.job
def _job() -> None:
    pass


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt, dg.DagsterRunStatus.CANCELING),
        (dg.DagsterExecutionInterruptedError, dg.DagsterRunStatus.CANCELING),
        (ValueError, dg.DagsterRunStatus.STARTED),
    ],
)
def test_interrupt_cancels_the_run_and_is_raised_again(tmp_path, error: type[BaseException], status):
    def execute(_context: object, _plan: object):
        raise error
        yield

    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        run = instance.create_run_for_job(_job, status=dg.DagsterRunStatus.STARTED)
        executor = InterruptibleExecutor(SimpleNamespace(execute=execute))
        with pytest.raises(error):
            list(executor.execute(SimpleNamespace(instance=instance, run_id=run.run_id), None))
        assert instance.get_run_by_id(run.run_id).status == status


def test_run_that_waits_for_a_pool_sleeps_until_it_looks_again(monkeypatch):
    with dg.DagsterInstance.ephemeral() as instance:
        claims = InstanceConcurrencyContext(instance, dg.DagsterRun(job_name="job"))
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    for due, seconds in ((1009.0, 1.0), (1000.25, 0.25), (990.0, 0.0)):
        claims._pending_timeouts["step"] = due
        claims._pending_claims.add("step")
        assert claims.interval_to_next_pending_claim_check() == seconds
