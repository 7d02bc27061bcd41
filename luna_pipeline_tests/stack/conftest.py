"""The stack that the tests share, and its instance."""

from collections.abc import Iterator

import dagster as dg
import pytest

from luna_pipeline_tests.s3_server import forget_connections
from luna_pipeline_tests.stack.as_processes import StackOfProcesses
from luna_pipeline_tests.stack.asking import instance_of
from luna_pipeline_tests.stack.worked import Worked, stack_that_worked


@pytest.fixture(scope="package")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worked]:
    """One stack for all tests: to start it and to run the demo takes minutes of a processor."""
    with stack_that_worked(tmp_path_factory.mktemp("stack")) as worked:
        yield worked


@pytest.fixture(scope="package")
def stack(worked: Worked) -> StackOfProcesses:
    return worked.stack


@pytest.fixture
def instance(stack: StackOfProcesses) -> Iterator[dg.DagsterInstance]:
    """The stack's instance; the test's own environment is the code location's while it is open."""
    with instance_of(stack.environment()) as instance:
        forget_connections()
        yield instance
    forget_connections()
