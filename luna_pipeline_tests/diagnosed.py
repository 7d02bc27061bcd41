"""An installation that diagnoses incoming CTs in the test's process: phantoms, small networks, a Dagster instance."""

from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np

from luna_pipeline import incoming
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline.definitions import defs
from luna_pipeline.partitions import INCOMING_SERIES, INCOMING_SERIES_NAME
from luna_pipeline.resources import LunaPaths
from luna_pipeline.settings import Settings
from luna_pipeline_tests.phantoms import write_ct, write_dicom_series

CONFIG = {"recipe": "default", "changes": {"lung_margin_mm": 0.0, "merge_mm": 0.0}}
OWNERS = {"lungs", "diagnosis", "champion"}
VOLUME, DICOM, EMPTY = "1.2.840.5", "1.2.840.7", "1.2.840.9"


@dataclass
class Clinic:
    """An inbox, a home and an instance."""

    root: Path
    instance: dg.DagsterInstance
    cursor: str | None = None
    said: str = ""

    @property
    def settings(self) -> Settings:
        return Settings.from_environment()

    @property
    def inbox(self) -> Path:
        return self.root / "incoming"

    def add_volume(self, uid: str = VOLUME) -> None:
        series = make_series(PhantomConfig(seed=2, number=5, size_irc=(32, 48, 48)))
        write_ct(self.inbox, uid, series.hounsfield, **_place(series))

    def add_dicom(self, uid: str = DICOM, folder: str = "study") -> None:
        series = make_series(PhantomConfig(seed=2, number=5, size_irc=(32, 48, 48)))
        write_dicom_series(self.inbox / folder, uid, series.hounsfield.clip(-1024), **_place(series))

    def add_head(self, uid: str = EMPTY) -> None:
        """A CT without lungs: water in air."""
        voxels = np.full((32, 48, 48), -1000, np.int16)
        voxels[4:-4, 10:-10, 10:-10] = 40
        write_ct(self.inbox, uid, voxels, spacing_mm=(4.0, 4.0, 4.0))

    @property
    def partitions(self) -> list[str]:
        return self.instance.get_dynamic_partitions(INCOMING_SERIES_NAME)

    def made(self, asset: str) -> set[str]:
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))

    def shown(self, asset: str = "diagnosis") -> dict[str, str]:
        """Status of each partition on the page of an asset."""
        statuses = self.instance.get_status_by_partition(dg.AssetKey(asset), self.partitions, INCOMING_SERIES) or {}
        return {uid: status.value if status else "MISSING" for uid, status in statuses.items()}

    def checks(self) -> dict[str, tuple[bool, str]]:
        """Result and text of the newest evaluation of each check."""
        keys = [key for key in defs.resolve_asset_graph().asset_check_keys if key.asset_key.to_user_string() in OWNERS]
        records = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        events = [record.event.dagster_event for record in records.values() if record.event]
        found = [event.asset_check_evaluation_data for event in events if event]
        newest = {name: self.instance.get_latest_materialization_event(dg.AssetKey(name)) for name in OWNERS}
        for check in found:
            made, target = newest[check.asset_key.to_user_string()], check.target_materialization_data
            # Otherwise pages show the check as not evaluated.
            assert made is None or (target is not None and target.run_id == made.run_id), check.check_name
        return {check.check_name: (check.passed, check.description or "") for check in found}

    def run(self, *, partition_key: str | None = None, tags=None, **config) -> dg.ExecuteInProcessResult:
        job = defs.resolve_job_def("diagnose")
        return job.execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            partition_key=partition_key,
            tags=tags,
            run_config={"ops": {"diagnose_series": {"config": CONFIG | config}}},
        )

    def tick(self) -> dg.SensorResult:
        """Evaluate the sensor once with the cursor of the previous tick, and register the partitions it asks for."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"paths": LunaPaths()}, definitions=defs
        )
        result = incoming.incoming_changed.evaluate_tick(context)
        self.cursor, self.said = result.cursor or self.cursor, result.skip_message or ""
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        return result

    def ask(self) -> list[str | None]:
        """Tick once; return the series for which runs were requested."""
        return [request.partition_key for request in self.tick().run_requests or []]


def _place(series) -> dict:
    grid = series.grid
    return {"spacing_mm": grid.spacing_mm, "origin_xyz": grid.origin_xyz, "direction": grid.direction}
