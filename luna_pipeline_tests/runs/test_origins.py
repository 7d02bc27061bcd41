"""Origins: runs started on a terminal belong to the same code location as those of webserver and daemon."""

from types import SimpleNamespace

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths

from luna_pipeline.runs.executor import InterruptibleExecutor
from luna_pipeline.runs.nested import MAX_RETRIES_TAG, UNLAUNCHED_TAG, outermost_run_id
from luna_pipeline.runs.origins import DEFINITIONS, LOCATION, REPOSITORY_ORIGIN
from luna_pipeline_tests.processes import REPOSITORY

LABEL = f"{SINGLETON_REPOSITORY_NAME}@{LOCATION}"
OURS = ReconstructableRepository.for_module(DEFINITIONS, "defs")
BY_FILE = ReconstructableRepository.for_file(str(REPOSITORY / "luna_pipeline/definitions.py"), "defs")
ANOTHER = ReconstructableRepository.for_module("somebody.elses", "defs")


@dg.job
def cut() -> None:
    pass


def _executed(instance: dg.DagsterInstance, repository=OURS, **options) -> dg.DagsterRun:
    """Create a run as a terminal's command does and execute no step of it."""
    code = repository and repository.get_reconstructable_job("cut").get_python_origin()
    run = instance.create_run_for_job(cut, job_code_origin=code, **options)
    executor = InterruptibleExecutor(SimpleNamespace(execute=lambda *_: iter(())))
    list(executor.execute(SimpleNamespace(instance=instance, run_id=run.run_id), None))
    return instance.get_run_by_id(run.run_id)


@pytest.mark.parametrize("name", ["workspace.yaml", "deploy/stack/workspace.yaml"])
def test_origin_selects_the_repository_that_the_workspace_files_load(monkeypatch, name):
    monkeypatch.setenv("LUNA_CODE_HOST", "code")
    monkeypatch.setenv("LUNA_CODE_PORT", "4000")
    (location,) = location_origins_from_yaml_paths([str(REPOSITORY / name)])
    loaded = RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME)
    assert REPOSITORY_ORIGIN.get_selector_id() == loaded.get_selector_id()
    assert REPOSITORY_ORIGIN.get_label() == loaded.get_label() == LABEL


def test_kubernetes_names_the_same_location():
    values = yaml.safe_load((REPOSITORY / "deploy/kubernetes/dagster-values.yaml").read_text())
    (server,) = values["dagsterWebserver"]["workspace"]["servers"]
    assert server["name"] == LOCATION


@pytest.mark.parametrize("repository", [OURS, BY_FILE])
def test_run_started_on_a_terminal_is_found_below_its_job(instance, repository):
    run = _executed(instance, repository, tags={"mine": "kept"})
    assert run.remote_job_origin == REPOSITORY_ORIGIN.get_job_origin("cut")
    assert run.tags["mine"] == "kept"
    for tags in ({".dagster/repository": LABEL}, {"dagster/code_location": LOCATION}):
        found = instance.get_runs(dg.RunsFilter(job_name="cut", tags=tags))
        assert [each.run_id for each in found] == [run.run_id]
    assert outermost_run_id(run) is None


@pytest.mark.parametrize("repository", [ANOTHER, None])
def test_run_of_other_definitions_is_left_as_it_is(instance, repository):
    run = _executed(instance, repository)
    assert (run.remote_job_origin, run.tags) == (None, {})


def test_launched_run_keeps_its_origin_and_its_retries(instance):
    location = GrpcServerCodeLocationOrigin("code", 4000, None, LOCATION)
    origin = RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME).get_job_origin("cut")
    run = _executed(instance, remote_job_origin=origin)
    assert run.remote_job_origin == origin
    assert run.tags.keys().isdisjoint({MAX_RETRIES_TAG, UNLAUNCHED_TAG})


def test_run_of_a_terminal_is_never_retried_by_the_queue_unless_asked_for(instance):
    for tags in ({}, {MAX_RETRIES_TAG: "1"}):
        instance.report_run_failed(_executed(instance, tags=tags), "taken for lost")
    assert [run.tags["dagster/will_retry"] for run in instance.get_runs()] == ["true", "false"]


def test_reexecution_on_a_terminal_is_a_run_of_its_own(instance):
    first = _executed(instance)
    again = _executed(instance, parent_run_id=first.run_id, root_run_id=first.run_id, tags={**first.tags})
    assert again.tags[UNLAUNCHED_TAG] == again.run_id
    assert again.remote_job_origin == first.remote_job_origin
