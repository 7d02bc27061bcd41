"""How runs are launched: as processes of the code location, each watched by its lease."""

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._serdes import ConfigurableClassData

from luna_pipeline.runs.leases import LOST_AFTER_SECONDS, LeaseWatch, take
from luna_pipeline.runs.nested import PARENT_TAG

LOCATION = "luna_pipeline"
"""The code location whose runs renew leases, as the workspace files name it."""


class LeasedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, and run monitoring can tell that a run's process is gone.

    The default launcher cannot: when the code location goes down with its runs, they stay STARTED for ever. Named in
    dagster.yaml as ``run_launcher``; whoever loads that file (webserver, daemon, code location) imports this module.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._watch = LeaseWatch()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make the launcher that dagster.yaml names; it has no settings."""
        return cls(inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Take the run's first lease, so that one which dies at its first breath is missed, and launch it."""
        origin = context.dagster_run.remote_job_origin
        if origin is not None and origin.location_name == LOCATION:
            take(self._instance, context.dagster_run.run_id)
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Tell whether the process of a started run still renews its lease; runs inside runs have their own.

        Those inside end with the run that somebody asked for, because they share its process: one that died at its
        first breath, before it took a lease, is found by that.
        """
        asked_for = run.tags.get(PARENT_TAG)
        if asked_for and self._is_over(asked_for):
            reason = f"The run that it is part of must be in progress, got one that has ended ({asked_for})"
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
        """End a run; of a run inside a run the one that somebody asked for, whose process they share."""
        run = self._instance.get_run_by_id(run_id)
        asked_for = run.tags.get(PARENT_TAG, run_id) if run else run_id
        return bool(super().terminate(asked_for))  # type: ignore[no-untyped-call]
