"""One installation inside the test's own process: its folders, its Dagster instance, and how to run a job of it."""

from pathlib import Path

import dagster as dg
import pandas as pd
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from luna_pipeline.definitions import defs
from luna_pipeline.partitions import CT_SERIES, CT_SERIES_NAME


class Luna:
    """A data root, a home and an instance, with the project's definitions."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.data = root / "data"
        self.home = root / "home"
        self.instance = instance

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
        return pd.read_parquet(self.home / "tables" / f"{name}.parquet")

    def partitions(self, asset: str) -> set[str]:
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))

    def cut_uids(self, result: dg.ExecuteInProcessResult) -> set[str]:
        return cut_in_run(self.instance, result.run_id)

    def last_cut(self, result: dg.ExecuteInProcessResult) -> set[str]:
        """The series that the newest run of `cut` below a run of `recut_changed` cut."""
        assert result.success
        run = self.instance.get_runs(dg.RunsFilter(job_name="cut"), limit=1)[0]
        return cut_in_run(self.instance, run.run_id)

    def edit(self, table: str, change) -> None:
        rows = pd.read_csv(self.data / table, dtype=str)
        change(rows).to_csv(self.data / table, index=False)

    def shown(self) -> dict[str, str]:
        """What the page of `cutouts` shows of each partition."""
        statuses = self.instance.get_status_by_partition(dg.AssetKey("cutouts"), self.uids, CT_SERIES) or {}
        return {uid: status.value if status else "MISSING" for uid, status in statuses.items()}

    def stale(self, asset: str, partition: str | None = None) -> str:
        """What the page says of an asset: FRESH, STALE or MISSING."""
        context = LoadingContextForTest(self.instance)
        resolver = CachingStaleStatusResolver(self.instance, defs.resolve_asset_graph(), context)
        return resolver.get_status(dg.AssetKey(asset), partition).value

    def files_of_ct(self, uid: str) -> list[Path]:
        return sorted(self.data.rglob(f"{uid}.*"))


def cut_in_run(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    """The series whose cutouts a run cut, by its events; adopted ones do not count."""
    entries = [record.event_log_entry for record in instance.get_records_for_run(run_id).records]
    made = [entry.asset_materialization for entry in entries if entry.asset_materialization]
    return {event.partition for event in made if event.partition and event.metadata["outcome"].value == "cut"}
