"""Options and fixtures of all tests: storage, real data, a small phantom, one installation per test."""

import contextlib
import gc
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from luna_pipeline_tests import coverage_of_core, workers
from luna_pipeline_tests.mlflow_fixtures import empty_database, quiet_mlflow, tracking_uri
from luna_pipeline_tests.real_data import make_lidc_root
from luna_pipeline_tests.s3_server import s3_home, s3_server
from luna_pipeline_tests.storages import LOCAL, STACK, new_instance, postgres_server, storage_environment

__all__ = [
    "empty_database",
    "new_instance",
    "postgres_server",
    "quiet_mlflow",
    "s3_home",
    "s3_server",
    "storage_environment",
    "tracking_uri",
]


# One thread per process: two workers share two cores, and sums in another order differ in the last bit.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same examples in every run: a failure in CI is repeated by the same command.
hypothesis.settings.register_profile("luna", derandomize=True, deadline=None)
hypothesis.settings.load_profile("luna")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that run the pipeline's tests on other storage and that record what they produce."""
    parser.addoption("--storage", choices=(LOCAL, STACK), default=LOCAL, help="storage of the fixture `luna`")
    parser.addoption("--record", type=Path, metavar="FILE", help="write what the fixture `luna` holds after each test")


def pytest_configure(config: pytest.Config) -> None:
    """Reject ``--record`` with several workers: they would write one file."""
    if config.getoption("--record") is not None and config.getoption("numprocesses", None):
        msg = "--record needs a single process, got -n. Leave -n out."
        raise pytest.UsageError(msg)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Limit coverage to the tests of ``core``, after pytest-cov has started it."""
    coverage_of_core.register(session.config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order tests for the workers of pytest-xdist; with the options above, keep the tests that use ``luna`` only."""
    if hasattr(config, "workerinput"):
        items[:] = workers.longest_first(items)
    if config.getoption("--storage") == LOCAL and config.getoption("--record") is None:
        return
    of_the_pipeline = [item for item in items if "luna" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in of_the_pipeline])
    items[:] = of_the_pipeline


def pytest_collection_finish() -> None:
    """Never look for garbage among the ten thousand tests and the modules they import: 5 % of the time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Callable[..., None]) -> Any:
    """Distribute files, and single tests of some files, over the workers."""
    return workers.scheduler(config, log)


@pytest.fixture(autouse=True)
def _no_global_mlflow_address():
    """Reset MLflow's tracking address, which is global to the process, after each test."""
    yield
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real scans, tables and weights; tests that need it are marked `real`."""
    folder = os.environ.get("LUNA_TEST_DATA")
    if not folder:
        pytest.skip("LUNA_TEST_DATA names no folder of real test data")
    return Path(folder)


@pytest.fixture(scope="session")
def lidc_database() -> Path:
    """The readers' database of LIDC-IDRI, whole; tests that need it are marked `real`."""
    path = os.environ.get("LUNA_TEST_LIDC_DATABASE")
    if not path:
        pytest.skip("LUNA_TEST_LIDC_DATABASE names no file of `luna import_lidc_annotations`")
    return Path(path)


@pytest.fixture(scope="session")
def lidc_root(real_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """A data root in LUNA16's form with two whole LIDC-IDRI scans; read only, shared by the session."""
    root = tmp_path_factory.mktemp("lidc")
    make_lidc_root(real_data, root)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@dataclass(frozen=True)
class Folders:
    """Installation for separate processes: data root, home, Dagster home, and a log of what they print."""

    root: Path
    num_series: int

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LUNA_DATA_DIR": str(self.data),
            "LUNA_HOME": str(self.home),
            "DAGSTER_HOME": str(self.dagster),
            "MLFLOW_TRACKING_URI": "",
            "HOME": str(self.root),
        }

    def write_config(self, text: str) -> str:
        path = self.root / "config.yaml"
        path.write_text(text)
        return str(path)


@pytest.fixture(scope="session")
def phantom_source(tmp_path_factory: pytest.TempPathFactory, record) -> Path:
    """A phantom of six series in three subsets; read only: a test that changes it copies it first."""
    from luna_pipeline.core.phantom.dataset import make_phantom

    root = tmp_path_factory.mktemp("phantom")
    make_phantom(root, num_series=6, num_subsets=3, seed=3, size_irc=(48, 64, 64))
    if record is not None:
        record.settle(root)
    return root


@pytest.fixture(scope="session")
def prepared_homes(phantom_source: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory):
    """Homes on the small phantom in which jobs have run, to be copied."""
    from luna_pipeline_tests.prepared import PreparedHomes

    return PreparedHomes(phantom_source, empty_database, tmp_path_factory.mktemp("prepared"))


def laid_out(phantom_source: Path, root: Path) -> Folders:
    """Write a data root with the small phantom and a Dagster home with the project's settings below a folder."""
    shutil.copytree(phantom_source, root / "data")
    (root / "dagster").mkdir()
    shutil.copyfile(Path(__file__).parents[1] / "dagster.yaml", root / "dagster/dagster.yaml")
    return Folders(root, num_series=6)


@pytest.fixture
def folders(phantom_source: Path, tmp_path: Path) -> Folders:
    """A data root with the small phantom, an empty home and an empty Dagster home; for this test alone."""
    return laid_out(phantom_source, tmp_path)


@pytest.fixture
def folders_after(folders: Folders, prepared_homes):
    """Function that returns ``folders`` with a home in which jobs have run: ``folders_after(INGEST, CUT)``."""

    def after(*jobs):
        prepared_homes.copy(jobs, home=folders.home, dagster=folders.dagster)
        return folders

    return after


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest):
    """Record of ``--record``, emptied at the start of the session; None without the option."""
    path = request.config.getoption("--record")
    if path is None:
        return None
    from luna_pipeline_tests.records import Record

    return Record.begun(path)


@pytest.fixture
def luna(phantom_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_instance, record, request):
    """A data root, an empty home and a new Dagster instance for this test alone, on the storage of ``--storage``."""
    from luna_pipeline_tests.installation import Luna

    shutil.copytree(phantom_source, tmp_path / "data")
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    with new_instance() as instance:
        luna = Luna(tmp_path, instance, new_instance)
        if record is not None:
            record.prepare(luna)
        yield luna
        if record is not None:
            record.add(request.node.nodeid, luna)


@pytest.fixture
def luna_after(luna, prepared_homes, record, request: pytest.FixtureRequest):
    """Function that returns ``luna`` after jobs that are only the set-up of a test: ``luna_after(INGEST, CUT)``.

    On local storage the home is copied from one in which they have run; otherwise they run in ``luna`` itself.
    """
    from luna_pipeline_tests.empty_storage import local_instance
    from luna_pipeline_tests.installation import Luna
    from luna_pipeline_tests.prepared import run_job

    with contextlib.ExitStack() as stack:

        def after(*jobs):
            if record is not None or request.config.getoption("--storage") != LOCAL:
                for job in jobs:
                    run_job(job, luna.instance)
                return luna
            folder = luna.root / "dagster_prepared"
            prepared_homes.copy(jobs, home=luna.home, dagster=folder)
            return Luna(luna.root, stack.enter_context(local_instance(folder)), luna.new_instance)

        yield after


@pytest.fixture(autouse=True)
def _ordinary_log_records() -> Iterator[None]:
    """Undo what the service's logging changes for the whole process, so that no test depends on those before it."""
    logging.setLogRecordFactory(logging.LogRecord)
    yield
    logging.setLogRecordFactory(logging.LogRecord)
