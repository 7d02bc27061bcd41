"""How this project's jobs are defined: in one process, each with an example of its configuration."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from luna_pipeline.runs.executor import interruptible_executor

EXAMPLES = {"cross_validate": "cross_validation", "tune": "tuning"}
"""Files in config/ whose name is not the job's."""
WITHOUT_EXAMPLE = {"recut_changed"}
"""Jobs without a configuration."""


def example_of(job_name: str) -> str | None:
    """Return the path of a job's example below the repository; None if it has no configuration."""
    return None if job_name in WITHOUT_EXAMPLE else f"config/{EXAMPLES.get(job_name, job_name)}.yaml"


def job(function: Callable[..., Any]) -> dg.JobDefinition:
    """Decorate the graph of a job of ops; its docstring describes it."""
    return dg.job(executor_def=interruptible_executor, metadata=_metadata(function.__name__))(function)


def asset_job(name: str, selection: Any, description: str, tags: Mapping[str, str] | None = None) -> Any:
    """Return a job that materializes assets with the same partitions."""
    return dg.define_asset_job(
        name,
        selection,
        description=description,
        tags=tags,
        metadata=_metadata(name),
        executor_def=interruptible_executor,
    )


def _metadata(job_name: str) -> dict[str, Any]:
    example = example_of(job_name)
    if example is None:
        return {"configuration": "none"}
    return {
        "example": dg.MetadataValue.path(example),
        "command": f"dg launch --job {job_name} -c {example}",
    }
