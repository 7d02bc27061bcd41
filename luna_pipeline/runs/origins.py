"""Origins: the code location of a run. Without one, Dagster's pages show no run of a job, and re-execute none."""

import importlib.util
from pathlib import Path

import dagster as dg
from dagster._core.code_pointer import FileCodePointer, ModuleCodePointer, PackageCodePointer
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import CODE_LOCATION_TAG, REPOSITORY_LABEL_TAG

DEFINITIONS = "luna_pipeline.definitions"
"""By name, because that module imports this one."""
LOCATION = "luna_pipeline"
"""Name of the code location, as in the workspace files."""
# Dagster compares origins by the names of location and repository. So one origin serves for all workspace files.
REPOSITORY_ORIGIN = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), "__repository__")


def repository_origin_of(run: dg.DagsterRun | None) -> RemoteRepositoryOrigin:
    """Return the repository to which a run belongs; without a run or origin, that of this code location."""
    origin = run.remote_job_origin if run is not None else None
    return REPOSITORY_ORIGIN if origin is None else origin.repository_origin


def set_origin(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Record this code location as a run's origin."""
    # Pages filter by the label's row in the table of tags, which `replace_job_origin` only updates.
    tags = {REPOSITORY_LABEL_TAG: REPOSITORY_ORIGIN.get_label(), CODE_LOCATION_TAG: LOCATION}
    instance.add_run_tags(run.run_id, tags)
    changed = run.with_tags({**run.tags, **tags})
    instance.run_storage.replace_job_origin(changed, REPOSITORY_ORIGIN.get_job_origin(run.job_name))


def belongs_here(run: dg.DagsterRun) -> bool:
    """Return whether a run's job was loaded from this project's definitions."""
    pointer = run.job_code_origin.repository_origin.code_pointer if run.job_code_origin else None
    if isinstance(pointer, ModuleCodePointer | PackageCodePointer):
        return pointer.module == DEFINITIONS
    if not isinstance(pointer, FileCodePointer):
        return False
    spec = importlib.util.find_spec(DEFINITIONS)
    return spec is not None and Path(pointer.python_file).resolve() == Path(str(spec.origin)).resolve()
