"""The run launcher that dagster.yaml names: runs are processes of the code location, each monitored by its lease."""

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._serdes import ConfigurableClassData

from luna_pipeline.runs.leases import LOST_AFTER_SECONDS, LeaseWatch, take
from luna_pipeline.runs.nested import drop_copied_tags, outermost_run_id
from luna_pipeline.runs.origins import LOCATION


class LeasedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher with a health check for run monitoring.

    With the default launcher, runs stay STARTED forever when the code location ends together with them. Webserver,
    daemon and code location import this module when they load dagster.yaml.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._watch = LeaseWatch()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make the launcher; it has no settings."""
        return cls(inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run. Its first lease is taken here, so that a process that ends at its start is detected."""
        drop_copied_tags(self._instance, context.dagster_run)
        origin = context.dagster_run.remote_job_origin
        if origin is not None and origin.location_name == LOCATION:
            take(self._instance, context.dagster_run.run_id)
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: run monitoring may call ``check_run_worker_health``."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return FAILED if the lease of a started run has expired, or if its outermost run has ended.

        Nested runs share the process of the outermost run. The second condition finds those whose process ended before
        they took a lease.
        """
        outermost = outermost_run_id(run)
        if outermost and self._is_over(outermost):
            reason = f"The run that it is part of must be in progress, got one that has ended ({outermost})"
            return CheckRunHealthResult(WorkerStatus.FAILED, f"{reason}: their process is gone")
        silent = self._watch.silent_seconds(self._instance, run.run_id)
        if silent < LOST_AFTER_SECONDS:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        reason = f"Its process must renew the run's lease, got no sign of it for {silent:.0f} s"
        return CheckRunHealthResult(WorkerStatus.FAILED, f"{reason}: the process or its container is gone")

    def _is_over(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        return run is None or run.is_finished

    def terminate(self, run_id: str) -> bool:
        """Terminate a run; for a nested run its outermost run, because they share a process."""
        run = self._instance.get_run_by_id(run_id)
        outermost = outermost_run_id(run) if run else None
        return bool(super().terminate(outermost or run_id))  # type: ignore[no-untyped-call]
