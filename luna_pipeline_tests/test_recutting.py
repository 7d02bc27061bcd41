"""What is cut again, what the page shows of each series, and what is marked stale."""

import shutil
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from luna_pipeline.launchers.installation import cutout_store
from luna_pipeline.partitions import versions_by_series
from luna_pipeline.runs.event_batches import EventBatch
from luna_pipeline_tests.installation import Luna
from luna_pipeline_tests.prepared import CUT, INDEX, INGEST

RECUT = ("recut_changed", {})


def _halve_voxels(luna: Luna, uid: str) -> bytes:
    """Damage a CT whose header is in order; return what its voxel file held."""
    raw = next(path for path in luna.files_of_ct(uid) if path.suffix == ".raw")
    whole = raw.read_bytes()
    raw.write_bytes(whole[: len(whole) // 2])
    return whole


def _everything(luna: Luna) -> dict[str, str]:
    return {}


def _a_range(luna: Luna) -> dict[str, str]:
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return dict(zip(names, (luna.uids[0], luna.uids[-1]), strict=True))


def _one(luna: Luna) -> dict[str, str]:
    return {"dagster/partition": luna.uids[2]}


@pytest.mark.parametrize(("tags", "num_others"), [(_everything, 5), (_a_range, 5), (_one, 0)])
def test_broken_ct_fails_its_own_partition_with_its_reason(luna_after, tags, num_others: int):
    luna = luna_after(INGEST)
    broken = luna.uids[2]
    whole = _halve_voxels(luna, broken)
    result = luna.run("cut", tags=tags(luna))
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure)
    failed = failure.step_failure_data.user_failure_data.metadata["failed"].value
    assert list(failed) == [broken]
    assert str(len(whole) // 2) in failed[broken]
    shown = luna.shown()
    assert shown.pop(broken) == "FAILED"
    assert sorted(shown.values()) == ["MATERIALIZED"] * num_others + ["MISSING"] * (5 - num_others)
    reasons = luna.instance.fetch_observations(
        dg.AssetRecordsFilter(dg.AssetKey("cutouts"), asset_partitions=[broken]), limit=1
    ).records
    assert reasons[0].asset_event.metadata["failed"].value == failed[broken]


def test_a_ct_that_was_good_and_is_refused_by_the_catalogue_fails_its_partition_and_the_others_are_indexed(luna_after):
    luna = luna_after(INGEST, CUT, INDEX)
    broken = luna.uids[1]
    _halve_voxels(luna, broken)
    assert luna.run("ingest").success
    assert not luna.run("cut").success
    assert luna.shown()[broken] == "FAILED"
    assert luna.run("index").success
    index = luna.table("cutout_index")
    assert set(index["series_instance_uid"]) == set(luna.uids) - {broken}


def test_events_of_a_killed_run_are_those_of_its_last_batch_and_the_next_run_reports_the_rest(luna_after, monkeypatch):
    luna = luna_after(INGEST)
    with monkeypatch.context() as killed:

        def store_or_die(batch: EventBatch) -> None:
            if len(batch._events) == 2:
                batch.flush()
            if len(luna.cutout_files) == 5:
                raise SystemExit

        # After a kill nothing is stored that was not yet.
        killed.setattr(EventBatch, "__exit__", lambda *_: None)
        killed.setattr(EventBatch, "flush_if_due", store_or_die)
        assert not luna.run("cut").success
    assert len(luna.cutout_files) == 5
    before = versions_by_series(luna.instance, "cutouts", luna.uids)
    assert len(before) == 4
    result = luna.run("cut")
    assert result.success
    assert len(luna.cut_uids(result)) == 1
    after = versions_by_series(luna.instance, "cutouts", luna.uids)
    assert before.items() <= after.items()
    store = cutout_store(luna.settings)
    assert after == {uid: store.digest(uid) for uid in luna.uids}
    assert set(luna.shown().values()) == {"MATERIALIZED"}


def test_mended_ct_is_no_longer_shown_as_failed_even_where_nothing_is_cut(luna_after):
    luna = luna_after(INGEST, CUT)
    mended = luna.uids[0]
    file = f"cutouts/{mended}.npz"
    kept = luna.read(file)
    luna.remove(file)
    whole = _halve_voxels(luna, mended)
    assert not luna.run("cut").success
    assert luna.shown()[mended] == "FAILED"
    raw = next(path for path in luna.files_of_ct(mended) if path.suffix == ".raw")
    raw.write_bytes(whole)
    luna.write(file, kept)
    result = luna.run("cut")
    assert result.success
    assert luna.cut_uids(result) == set()
    assert set(luna.shown().values()) == {"MATERIALIZED"}


def test_edited_rows_recut_exactly_their_series_and_new_labels_none(luna_after):
    luna = luna_after(RECUT)
    candidates = luna.table("candidates")
    per_series = candidates[candidates["source"] == "candidate"]["series_instance_uid"].value_counts()
    moved, grown = sorted(per_series.index)[:2]

    def move_first_row(rows: pd.DataFrame) -> pd.DataFrame:
        first = rows.index[rows["seriesuid"] == moved][0]
        rows.loc[first, "coordX"] = str(float(rows.loc[first, "coordX"]) + 0.25)
        return rows

    luna.edit("candidates_V2.csv", move_first_row)
    recut = luna.last_cut(luna.run("recut_changed"))
    assert recut == {moved}

    def grow(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[rows["seriesuid"] == grown, "diameter_mm"] = "29.5"
        return rows

    annotated = set(pd.read_csv(luna.data / "annotations.csv")["seriesuid"])
    grown = grown if grown in annotated else sorted(annotated)[0]
    luna.edit("annotations.csv", grow)
    before = luna.table("candidates")
    assert luna.last_cut(luna.run("recut_changed")) == set()
    assert not luna.table("candidates").equals(before)
    assert (luna.table("cutout_index")["diameter_mm"] == 29.5).any()


def test_recut_marks_what_depends_on_the_index_stale_and_an_unchanged_run_does_not(luna_after):
    luna = luna_after(RECUT)
    assert luna.make("zero_rule_baseline", partition_key="0").success
    assert luna.stale("zero_rule_baseline", "0") == "FRESH"
    assert luna.last_cut(luna.run("recut_changed")) == set()
    statuses = {name: luna.stale(name) for name in ("candidates", "folds", "cutout_index")}
    assert set(statuses.values()) == {"FRESH"}, statuses
    assert luna.stale("zero_rule_baseline", "0") == "FRESH"
    assert {luna.stale("cutouts", uid) for uid in luna.uids} == {"FRESH"}

    def move_first_row(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[0, "coordX"] = str(float(rows.loc[0, "coordX"]) + 0.25)
        return rows

    luna.edit("candidates_V2.csv", move_first_row)
    assert len(luna.last_cut(luna.run("recut_changed"))) == 1
    # The others are as current as the one that was cut.
    assert {luna.stale("cutouts", uid) for uid in luna.uids} == {"FRESH"}
    assert luna.stale("cutout_index") == "FRESH"
    assert luna.stale("zero_rule_baseline", "0") == "STALE"


def test_new_ct_is_catalogued_and_cut_alone(luna: Luna, tmp_path: Path):
    late = sorted(path.stem for path in luna.data.rglob("*.mhd"))[3]
    (tmp_path / "aside").mkdir()
    places = {path: tmp_path / "aside" / path.name for path in luna.files_of_ct(late)}
    for path, aside in places.items():
        shutil.move(path, aside)
    assert luna.last_cut(luna.run("recut_changed")) == set(luna.uids)
    assert late not in luna.uids
    for path, aside in places.items():
        shutil.move(aside, path)
    assert luna.last_cut(luna.run("recut_changed")) == {late}
    assert luna.shown()[late] == "MATERIALIZED"


def test_gone_ct_is_told_its_cutouts_are_kept_and_cutting_the_others_goes_on(luna_after):
    luna = luna_after(RECUT)
    gone = luna.uids[1]
    for path in luna.files_of_ct(gone):
        path.unlink()
    result = luna.run("ingest")
    assert result.success
    told = next(
        event.asset_check_evaluation_data
        for event in result.all_events
        if event.event_type_value == "ASSET_CHECK_EVALUATION"
        and event.asset_check_evaluation_data.check_name == "no_ct_is_gone"
    )
    assert not told.passed
    assert told.severity == dg.AssetCheckSeverity.WARN
    assert told.metadata["gone"].value == [gone]
    assert luna.run("cut").success
    assert luna.run("index").success
    assert gone not in set(luna.table("cutout_index")["series_instance_uid"])
    assert luna.run("cut", tags=_a_range(luna)).success
    assert luna.has(f"cutouts/{gone}.npz")
    assert gone in luna.uids
    assert luna.shown()[gone] == "MATERIALIZED"
