"""Dagster's daemon on this project: what it cuts again, what it leaves as it is, which failures it reports."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline_tests.alerts.receivers import Webhook
from luna_pipeline_tests.conftest import Folders, laid_out
from luna_pipeline_tests.dagster_site import LOCATION, Site, served
from luna_pipeline_tests.prepared import CUT, run_on
from luna_pipeline_tests.processes import wait_for
from luna_pipeline_tests.test_interruptions import run_to_end

pytestmark = pytest.mark.slow

RECUT = ("recut_changed", {})
TRAINING = {"ops": {"nodule_classifier": {"config": {"recipe": "demo", "epochs": 1, "batch_size": 8}}}}
ASSET = """query($k: AssetKeyInput!, $p: String){assetNodeOrError(assetKey: $k){... on AssetNode{
    partitionStats{numMaterialized numFailed} staleStatus(partition: $p) freshnessStatusInfo{freshnessStatus}}}}"""
TICKS = """query($s: SensorSelector!){sensorOrError(sensorSelector: $s){... on Sensor{
    sensorState{ticks(limit: 20){status timestamp runIds}}}}}"""
NIGHT = """mutation($s: ScheduleSelector!, $t: Float){scheduleDryRun(selectorData: $s, timestamp: $t){
    ... on DryRunInstigationTick{evaluationResult{skipReason runRequests{runKey} error{message}}}}}"""
CHECK = """query($k: AssetKeyInput!){assetNodeOrError(assetKey: $k){... on AssetNode{assetChecksOrError{
    ... on AssetChecks{checks{name executionForLatestMaterialization{status evaluation{severity}}}}}}}}"""


class Watched(Site):
    """A site whose daemon watches the data root, and the webhook that gets its failures."""

    webhook: Webhook

    def asset(self, name: str, partition: str | None = None) -> dict:
        return self.ask(ASSET, k={"path": [name]}, p=partition)["assetNodeOrError"]

    def cutouts(self) -> dict[str, int]:
        return {path.stem: path.stat().st_mtime_ns for path in (self.folders.home / "cutouts").glob("*.npz")}

    def cut_after(self, change: Callable[[], object]) -> set[str]:
        """Change the inputs, wait until the daemon has cut again with one run, and return what was cut."""
        times, before = self.cutouts(), len(self.runs("recut_changed"))
        change()
        wait_for(self._is_idle_after(before + 1), limit_seconds=400, what="Re-cutting by the sensor")
        assert [run["status"] for run in self.runs("recut_changed")[:1]] == ["SUCCESS"]
        assert len(self.runs("recut_changed")) == before + 1
        return {uid for uid, at in self.cutouts().items() if times.get(uid) != at}

    def _is_idle_after(self, count: int) -> Callable[[], bool]:
        ended = {"SUCCESS", "FAILURE", "CANCELED"}

        def is_idle() -> bool:
            runs = self.runs("recut_changed")
            return len(runs) >= count and all(run["status"] in ended for run in runs)

        return is_idle

    def ticks_since(self, timestamp: float, sensor_name: str = "inputs_changed") -> list[dict]:
        sensor = self.ask(TICKS, s={**LOCATION, "sensorName": sensor_name})["sensorOrError"]
        return [tick for tick in sensor["sensorState"]["ticks"] if tick["timestamp"] > timestamp]

    def has_looked_for_failures(self) -> bool:
        return any(tick["status"] == "SKIPPED" for tick in self.ticks_since(0, "run_failed"))

    def is_fresh(self, name: str) -> bool:
        return self.asset(name)["freshnessStatusInfo"] == {"freshnessStatus": "HEALTHY"}

    def edit(self, table: str, column: str, change: Callable[[str], str]) -> None:
        """Change a cell of the first row; the file is replaced by renaming a new one."""
        path = self.folders.data / table
        rows = pd.read_csv(path, dtype=str)
        rows.loc[0, column] = change(rows.loc[0, column])
        rows.to_csv(path.with_suffix(".new"), index=False)
        path.with_suffix(".new").replace(path)

    def ct_files(self, uid: str) -> list[Path]:
        return sorted(self.folders.data.rglob(f"{uid}.*"))


@pytest.fixture(scope="module")
def site(phantom_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """`dagster dev` on a phantom that is cut, without one CT, and a classifier trained on it."""
    root = tmp_path_factory.mktemp("daemon")
    folders = laid_out(phantom_source, root)
    for path in (root / "data").rglob(f"{_late(folders)}.*"):
        shutil.move(path, root / path.name)
    run_on(folders, RECUT)
    run_on(folders, ("train_nodule_classifier", TRAINING))
    with contextlib.closing(Webhook()) as webhook, served(folders, {"LUNA_ALERT_WEBHOOK": webhook.address}) as address:
        site = Watched(address, folders)
        site.webhook = webhook
        yield site


def _late(folders: Folders) -> str:
    """The series whose CT arrives only later."""
    headers = [*folders.data.rglob("*.mhd"), *folders.root.glob("*.mhd")]
    return sorted(path.stem for path in headers)[3]


def test_failed_series_is_shown_and_told_and_freshness_is_known(site: Watched):
    for name in ("candidates", "cutouts"):
        wait_for(partial(site.is_fresh, name), limit_seconds=120, what=f"Freshness of {name}")
    wait_for(site.has_looked_for_failures, limit_seconds=120, what="The first tick")
    uid = sorted(site.cutouts())[2]
    raw = next(path for path in site.ct_files(uid) if path.suffix == ".raw")
    file = site.folders.home / f"cutouts/{uid}.npz"
    whole, status, cutouts = raw.read_bytes(), raw.stat(), file.read_bytes()
    raw.write_bytes(whole[: len(whole) // 2])
    file.unlink()
    assert run_to_end(site.folders, "cut") == 1
    assert site.asset("cutouts")["partitionStats"] == {"numMaterialized": 4, "numFailed": 1}
    wait_for(lambda: site.webhook.posts, limit_seconds=120, what="The alert")
    assert [post["job"] for post in site.webhook.posts] == ["cut"]
    assert list(site.webhook.posts[0]["series"]) == [uid]
    raw.write_bytes(whole)
    os.utime(raw, ns=(status.st_atime_ns, status.st_mtime_ns))
    file.write_bytes(cutouts)
    run_on(site.folders, CUT)
    assert site.asset("cutouts")["partitionStats"] == {"numMaterialized": 5, "numFailed": 0}


def test_unchanged_inputs_launch_nothing(site: Watched):
    selector = {**LOCATION, "sensorName": "inputs_changed"}
    site.ask("mutation($s: SensorSelector!){startSensor(sensorSelector:$s){__typename}}", s=selector)
    since, before = time.time(), len(site.runs("recut_changed"))
    wait_for(lambda: len(site.ticks_since(since)) >= 3, limit_seconds=300, what="Three ticks")
    assert {tick["status"] for tick in site.ticks_since(since)} <= {"SKIPPED", "STARTED"}
    assert len(site.runs("recut_changed")) == before
    assert site.asset("nodule_classifier", "0")["staleStatus"] == "FRESH"


def test_edited_row_recuts_its_series_and_marks_the_classifier_stale(site: Watched):
    edited = pd.read_csv(site.folders.data / "candidates_V2.csv", dtype=str).loc[0, "seriesuid"]
    assert site.cut_after(lambda: site.edit("candidates_V2.csv", "coordY", lambda y: str(float(y) + 0.5))) == {edited}
    assert site.asset("cutout_index")["staleStatus"] == "FRESH"
    assert site.asset("nodule_classifier", "0")["staleStatus"] == "STALE"


def test_edited_diameter_recuts_nothing_and_refreshes_the_tables(site: Watched):
    assert site.cut_after(lambda: site.edit("annotations.csv", "diameter_mm", lambda _: "28.25")) == set()
    index = pd.read_parquet(site.folders.home / "tables/cutout_index.parquet")
    assert (index["diameter_mm"] == 28.25).any()


def test_new_ct_is_catalogued_and_cut(site: Watched):
    late = _late(site.folders)
    place = next(site.folders.data.rglob("*.mhd")).parent
    files = sorted(site.folders.root.glob(f"{late}.*"))
    assert site.cut_after(lambda: [shutil.move(path, place / path.name) for path in files]) == {late}


def test_ct_that_disappears_is_reported_and_its_cutouts_stay(site: Watched):
    gone = sorted(site.cutouts())[0]
    assert site.cut_after(lambda: [path.unlink() for path in site.ct_files(gone)]) == set()
    assert gone in site.cutouts()
    checks = site.ask(CHECK, k={"path": ["ct_series"]})["assetNodeOrError"]["assetChecksOrError"]["checks"]
    told = next(check for check in checks if check["name"] == "no_ct_is_gone")["executionForLatestMaterialization"]
    assert told == {"status": "FAILED", "evaluation": {"severity": "WARN"}}


def test_damaged_file_is_seen_at_night(site: Watched):
    selector = {**LOCATION, "scheduleName": "recut_nightly"}
    night = site.ask(NIGHT, s=selector, t=time.time())["scheduleDryRun"]["evaluationResult"]
    assert night["error"] is None
    assert "as they should be" in night["skipReason"]
    damaged = sorted(site.cutouts())[1]
    path = site.folders.home / f"cutouts/{damaged}.npz"
    path.write_bytes(path.read_bytes()[:-100])
    night = site.ask(NIGHT, s=selector, t=time.time())["scheduleDryRun"]["evaluationResult"]
    assert night["runRequests"] == [{"runKey": None}]
    times = site.cutouts()
    run_on(site.folders, RECUT)
    assert {uid for uid, at in site.cutouts().items() if times[uid] != at} == {damaged}
