"""Values of the state of an installation."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class AssetState:
    """What is made of an asset.

    Attributes:
        name: Its name.
        num_made: Number of its partitions that are made; 1 or 0 without partitions.
        num_partitions: Number of its partitions; None without partitions, or if it is not known.
        made_at: Time of the last one, local, to the minute; empty if none was made.
        stale: Why it has to be made again.
        failed: Why its last attempt failed, by partition; the empty name stands for the whole asset.
    """

    name: str
    num_made: int = 0
    num_partitions: int | None = None
    made_at: str = ""
    stale: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def made(self) -> str:
        """The numbers in words."""
        if self.num_partitions is not None:
            return f"{self.num_made} of {self.num_partitions}"
        return str(self.num_made) if self.num_made != 1 else "yes"


@dataclass(frozen=True)
class FailedCheck:
    """A check whose last result is a failure.

    Attributes:
        name: ``asset.check``.
        severity: ``warn`` or ``error``; an error may stop what depends on the asset.
        description: What was found.
    """

    name: str
    severity: str
    description: str


@dataclass(frozen=True)
class AutomationState:
    """A sensor or schedule.

    Attributes:
        name: Its name.
        is_on: Whether it is switched on.
        last: What its last tick did; empty before the first.
    """

    name: str
    is_on: bool
    last: str = ""


@dataclass(kw_only=True)
class Status:
    """State of an installation.

    Attributes:
        home: Where everything is made.
        dagster_home: Folder of Dagster's history; None if the state is read from files.
        is_synthetic: Whether the data are a phantom.
        assets: All assets in the order of the stages.
        unreadable: Reason by series that cannot be read.
        checks: Failed checks.
        in_progress: Runs in progress or waiting, the newest first, as from ``run_rows``.
        failed_runs: The last failed runs, with ``is_over``: whether the same job succeeded since.
        automations: Sensors and schedules.
        notes: What could not be found out.
    """

    home: str
    dagster_home: str | None
    is_synthetic: bool
    assets: list[AssetState]
    unreadable: dict[str, str] = field(default_factory=dict)
    checks: list[FailedCheck] = field(default_factory=list)
    in_progress: list[dict[str, Any]] = field(default_factory=list)
    failed_runs: list[dict[str, Any]] = field(default_factory=list)
    automations: list[AutomationState] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
