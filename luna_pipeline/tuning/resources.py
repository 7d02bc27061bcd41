"""Resources of a trial, and the number of trials that run at the same time."""

import math
from dataclasses import dataclass

from luna_pipeline.cluster.session import RayResources
from luna_pipeline.core.config.checks import check_integer, check_number


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResources:
    """Resources of each trial; they do not change its result.

    Attributes:
        cpus: CPUs of a trial.
        gpus: GPUs of a trial: a whole number, or a part of one; None for one if there are any, else none.
        max_concurrent: Trials at the same time; None for as many as the resources allow.
        max_restarts: How often a trial is restarted after its process died.
    """

    cpus: int = 1
    gpus: float | None = None
    max_concurrent: int | None = None
    max_restarts: int = 3

    def __post_init__(self) -> None:
        check_integer("cpus", self.cpus, at_least=1)
        check_integer("max_restarts", self.max_restarts, at_least=0)
        if self.gpus is not None:
            check_number("gpus", self.gpus, "[0, inf)")
            if self.gpus > 1 and self.gpus != int(self.gpus):
                msg = f"gpus must be a part of one, or whole ones, got {self.gpus}. Give up to 1, or a whole number."
                raise ValueError(msg)
        if self.max_concurrent is not None:
            check_integer("max_concurrent", self.max_concurrent, at_least=1)

    def of(self, there: RayResources) -> dict[str, float]:
        """Return the resource request for Ray.

        Raises:
            ValueError: If the resources do not suffice for one trial.
        """
        gpus = self.gpus if self.gpus is not None else float(min(1.0, there.num_gpus))
        if self.cpus > there.num_cpus or gpus > there.num_gpus:
            msg = f"There must be room for a trial of {self.cpus} CPUs and {gpus:g} GPUs, got {there.num_cpus:g} CPUs"
            raise ValueError(f"{msg} and {there.num_gpus:g} GPUs. Ask for less, or start more nodes.")
        return {"cpu": self.cpus, "gpu": gpus}

    def concurrent(self, there: RayResources) -> int:
        """Return the number of trials that run at the same time."""
        asked = self.of(there)
        rooms = [there.num_cpus // asked["cpu"], self.max_concurrent or math.inf]
        if asked["gpu"] >= 1:
            rooms.append(there.num_gpus // asked["gpu"])
        elif asked["gpu"] > 0:
            # No trial uses parts of two GPUs. 1 // 0.1 would be 9, not 10.
            rooms.append(max(1.0, there.num_gpus // 1 * math.floor(1 / asked["gpu"])))
        return int(min(rooms))
