"""Failed steps of runs that were never executed, for tests of sensors."""

import dagster as dg
from dagster._core.definitions.metadata import normalize_metadata
from dagster._core.events import DagsterEvent
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData
from dagster._utils.error import SerializableErrorInfo


def add_failed_step(instance: dg.DagsterInstance, run: dg.DagsterRun, failure: dict | str) -> None:
    """Report a failed step: by a ``Failure`` with this metadata, or by an error of the class with this name."""
    name = failure if isinstance(failure, str) else "Failure"
    own = None if isinstance(failure, str) else UserFailureData("", metadata=normalize_metadata(failure))
    cause = SerializableErrorInfo(f"{name}: A rule, got 1.\n", [], name)
    error = SerializableErrorInfo("a step failed", [], "StepError", cause=cause)
    event = DagsterEvent(
        dg.DagsterEventType.STEP_FAILURE.value,
        run.job_name,
        step_key="step",
        event_specific_data=StepFailureData(error, own),
    )
    instance.report_dagster_event(event, run.run_id)
