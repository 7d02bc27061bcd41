"""Installation inside the test's process: its folders, its Dagster instance, and methods to run jobs."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from luna_pipeline.core.storage.files import AnyPath, content_of, is_remote, listing, read_bytes, remove, write_bytes
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.definitions import defs
from luna_pipeline.partitions import CT_SERIES, CT_SERIES_NAME
from luna_pipeline.settings import Settings
from luna_pipeline_tests.storages import NewInstance


class Luna:
    """A data root, a home and an instance, with the project's definitions.

    The home is a folder or an address in S3; what is in it is named relative to it, as in ``cutouts/<uid>.npz``.
    """

    def __init__(self, root: Path, instance: dg.DagsterInstance, new_instance: NewInstance) -> None:
        self.root = root
        self.instance = instance
        self.settings = Settings.from_environment()
        self.new_instance = new_instance

    @contextlib.contextmanager
    def with_lost_dagster_home(self) -> Iterator["Luna"]:
        """The same data and home with an empty instance."""
        with self.new_instance() as instance:
            yield Luna(self.root, instance, self.new_instance)

    @property
    def data(self) -> Path:
        return self.settings.data_dir

    @property
    def home(self) -> AnyPath:
        return self.settings.home

    def file(self, name: str) -> AnyPath:
        return self.home / name

    def read(self, name: str) -> bytes:
        return read_bytes(self.file(name))

    def write(self, name: str, content: bytes) -> None:
        """Overwrite a file; on a disk in place, not atomically, as damage does."""
        path = self.file(name)
        write_bytes(path, content) if is_remote(path) else path.write_bytes(content)

    def remove(self, name: str) -> None:
        assert self.has(name)
        remove(self.file(name))

    def has(self, name: str) -> bool:
        """Whether there is a file or a folder of this name; S3 has no folders without files."""
        path = self.file(name)
        return bool(name in self.names() or self.names(name)) if is_remote(path) else path.exists()

    def names(self, folder: str = "") -> list[str]:
        """Names of the files below a folder of the home, relative to that folder."""
        return sorted(listing(self.home / folder if folder else self.home))

    def read_json(self, name: str) -> dict:
        return json.loads(self.read(name))

    def checkpoint(self, name: str, version: str) -> Checkpoint:
        return load_checkpoint(self.file(f"checkpoints/{name}/{version}/best.pt"))

    @property
    def cutout_files(self) -> list[str]:
        return [f"cutouts/{name}" for name in self.names("cutouts") if "/" not in name and name.endswith(".npz")]

    @property
    def uids(self) -> list[str]:
        return sorted(self.instance.get_dynamic_partitions(CT_SERIES_NAME))

    def run(self, job: str, **options) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def(job).execute_in_process(instance=self.instance, raise_on_error=False, **options)

    def make(self, *assets: str, **options) -> dg.ExecuteInProcessResult:
        job = defs.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(asset) for asset in assets]
        return job.execute_in_process(instance=self.instance, asset_selection=keys, **options)

    def table(self, name: str) -> pd.DataFrame:
        """A table by its asset's name, or by ``<asset>/<fold>``."""
        return pd.read_parquet(content_of(self.file(f"tables/{name}.parquet")))

    def partitions(self, asset: str) -> set[str]:
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))

    def cut_uids(self, result: dg.ExecuteInProcessResult) -> set[str]:
        return cut_in_run(self.instance, result.run_id)

    def materialized_in(self, result: dg.ExecuteInProcessResult) -> list[str]:
        """The partitions that a run materialized, in the order of its events."""
        return [event.partition for event in _materializations(self.instance, result.run_id) if event.partition]

    def last_cut(self, result: dg.ExecuteInProcessResult) -> set[str]:
        """The series that the newest run of `cut` below a run of `recut_changed` cut."""
        assert result.success
        run = self.instance.get_runs(dg.RunsFilter(job_name="cut"), limit=1)[0]
        return cut_in_run(self.instance, run.run_id)

    def edit(self, table: str, change) -> None:
        rows = pd.read_csv(self.data / table, dtype=str)
        change(rows).to_csv(self.data / table, index=False)

    def shown(self) -> dict[str, str]:
        """Status of each partition on the page of `cutouts`."""
        statuses = self.instance.get_status_by_partition(dg.AssetKey("cutouts"), self.uids, CT_SERIES) or {}
        return {uid: status.value if status else "MISSING" for uid, status in statuses.items()}

    def stale(self, asset: str, partition: str | None = None) -> str:
        """Status of an asset on its page: FRESH, STALE or MISSING."""
        context = LoadingContextForTest(self.instance)
        resolver = CachingStaleStatusResolver(self.instance, defs.resolve_asset_graph(), context)
        return resolver.get_status(dg.AssetKey(asset), partition).value

    def files_of_ct(self, uid: str) -> list[Path]:
        return sorted(self.data.rglob(f"{uid}.*"))


def _materializations(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetMaterialization]:
    entries = [record.event_log_entry for record in instance.get_records_for_run(run_id).records]
    return [entry.asset_materialization for entry in entries if entry.asset_materialization]


def cut_in_run(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    """The series whose cutouts a run cut, by its events; adopted ones do not count."""
    made = _materializations(instance, run_id)
    return {event.partition for event in made if event.partition and event.metadata["outcome"].value == "cut"}
