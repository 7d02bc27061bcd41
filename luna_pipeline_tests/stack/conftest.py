"""A stack for the tests of a module, and its instance."""

from collections.abc import Iterator

import dagster as dg
import pytest

from luna_pipeline_tests.s3_server import forget_connections
from luna_pipeline_tests.stack.as_processes import StackOfProcesses, stack_of_processes
from luna_pipeline_tests.stack.asking import instance_of


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackOfProcesses]:
    with stack_of_processes(tmp_path_factory.mktemp("stack"), without=()) as stack:
        yield stack


@pytest.fixture
def instance(stack: StackOfProcesses) -> Iterator[dg.DagsterInstance]:
    """The stack's instance; the test's own environment is the code location's while it is open."""
    with instance_of(stack.environment()) as instance:
        forget_connections()
        yield instance
    forget_connections()
