"""The executor: an interrupt cancels the run, an error does not."""

from types import SimpleNamespace

import dagster as dg
import pytest

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
