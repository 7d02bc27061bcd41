"""Cutouts and partitions of what is no longer in the data root: listed, removed, or kept while they are in use."""

import json
import time

import dagster as dg
import pandas as pd
import pytest
from click.testing import CliRunner
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from luna_pipeline.cli import cli
from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.definitions import defs
from luna_pipeline.launchers.installation import cutout_store
from luna_pipeline.launchers.pruning import prune
from luna_pipeline.partitions import (
    CT_SERIES_NAME,
    INCOMING_SERIES_NAME,
    TEST_FOLD_NAME,
    forget_folds,
    register_folds,
    register_series,
)
from luna_pipeline.settings import Settings
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct

PRESENT, CUT, NEVER_CUT = "1.2.3.1", "1.2.3.2", "1.2.3.3"


@pytest.fixture
def instance(tmp_path):
    """An instance with partitions of three series, one of which has its CT, and of four folds; two are left."""
    (tmp_path / "dagster").mkdir()
    overrides = {"telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster"), overrides=overrides) as instance:
        register_series(instance, [PRESENT, CUT, NEVER_CUT])
        register_folds(instance, range(4))
        yield instance


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    write_ct(tmp_path / "data", PRESENT, random_hounsfield())
    settings = Settings.from_environment()
    for uid in (PRESENT, CUT):
        write_bytes(settings.cutouts_dir / f"{uid}.npz", b"chunks")
    (tmp_path / "home/tables").mkdir()
    pd.DataFrame({"fold": [0, 1]}).to_parquet(tmp_path / "home/tables/folds.parquet")
    return settings


def keys(instance: dg.DagsterInstance) -> tuple[list[str], list[str]]:
    return tuple(sorted(instance.get_dynamic_partitions(name)) for name in (CT_SERIES_NAME, TEST_FOLD_NAME))


def add_backfill(instance: dg.DagsterInstance, asset: str, names: list[str], status: BulkActionStatus) -> None:
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id="abcdefgh",
        asset_graph=defs.resolve_asset_graph(),
        asset_selection=[dg.AssetKey(asset)],
        partition_names=names,
        all_partitions=False,
        dynamic_partitions_store=instance,
        tags={},
        backfill_timestamp=time.time(),
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill.with_status(status))


def pruned(settings: Settings, instance: dg.DagsterInstance | None, *, is_removed: bool = True) -> str:
    lines: list[str] = []
    prune(settings, is_removed=is_removed, report=lines.append, instance=instance)
    return "\n".join(lines)


def test_partitions_without_a_ct_or_a_fold_are_listed_and_then_removed(settings, instance):
    before = keys(instance)
    said = pruned(settings, instance, is_removed=False)
    assert keys(instance) == before
    assert f"Would remove the partition of series {NEVER_CUT}" in said
    assert f"{CUT}.npz (6 bytes)" in said
    assert "Would remove the partition of fold 3" in said
    assert "Add --yes" in said
    assert f"Removed the partition of series {NEVER_CUT}" in pruned(settings, instance)
    assert keys(instance) == ([PRESENT], ["0", "1"])
    assert cutout_store(settings).uids() == [PRESENT]
    assert "0 series without a CT" in pruned(settings, instance)


def test_without_an_instance_only_files_are_removed_and_it_is_said(settings):
    said = pruned(settings, None)
    assert "Dagster's partitions were not compared, because DAGSTER_HOME is not set." in said
    assert cutout_store(settings).uids() == [PRESENT]


def test_the_command_takes_the_instance_of_dagster_home(settings, instance, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", instance.root_directory)
    done = CliRunner().invoke(cli, ["prune", "--yes"], catch_exceptions=False)
    assert f"Removed the partition of series {NEVER_CUT}" in done.output
    assert keys(instance)[0] == [PRESENT]
    monkeypatch.delenv("DAGSTER_HOME")
    done = CliRunner().invoke(cli, ["prune", "--json"], catch_exceptions=False)
    assert "DAGSTER_HOME is not set" in done.stderr
    nothing = {name: [] for name in ("cutouts", "series", "folds", "incoming")}
    assert json.loads(done.stdout) == {"is_removed": False, **nothing, "kept": {}}


def test_without_a_table_of_folds_no_fold_is_removed(settings, instance):
    (settings.tables_dir / "folds.parquet").unlink()
    pruned(settings, instance)
    assert keys(instance) == ([PRESENT], ["0", "1", "2", "3"])


@pytest.mark.parametrize(
    ("status", "is_kept"),
    [
        (BulkActionStatus.REQUESTED, True),
        (BulkActionStatus.CANCELING, True),
        (BulkActionStatus.FAILING, True),
        (BulkActionStatus.COMPLETED_SUCCESS, False),
        (BulkActionStatus.CANCELED, False),
        (BulkActionStatus.FAILED, False),
    ],
)
def test_keys_of_a_backfill_in_progress_are_kept_with_their_files(settings, instance, status, is_kept: bool):
    add_backfill(instance, "cutouts", [PRESENT, CUT], status)
    said = pruned(settings, instance)
    assert keys(instance)[0] == ([PRESENT, CUT] if is_kept else [PRESENT])
    assert (CUT in cutout_store(settings).uids()) == is_kept
    assert (f"Kept {CUT}: backfill abcdefgh has it." in said) == is_kept


def test_a_fold_of_a_backfill_is_kept(settings, instance):
    add_backfill(instance, "zero_rule_baseline", ["3"], BulkActionStatus.REQUESTED)
    assert "Kept 3: backfill" in pruned(settings, instance)
    assert keys(instance) == ([PRESENT], ["0", "1", "3"])
    assert forget_folds(instance, ["1", "3"]) == {"3": "backfill abcdefgh"}, "the asset `folds` removes folds by this"
    assert keys(instance)[1] == ["0", "3"]


RANGE = {"dagster/asset_partition_range_start": PRESENT, "dagster/asset_partition_range_end": NEVER_CUT}


@pytest.mark.parametrize(
    ("tags", "kept"), [({"dagster/partition": CUT}, {CUT}), (RANGE, {CUT, NEVER_CUT}), ({}, set())]
)
@pytest.mark.parametrize(
    ("status", "is_over"),
    [
        (dg.DagsterRunStatus.NOT_STARTED, False),
        (dg.DagsterRunStatus.STARTED, False),
        (dg.DagsterRunStatus.FAILURE, True),
    ],
)
def test_keys_of_a_run_in_progress_are_kept(settings, instance, tags, kept, status, is_over: bool):
    instance.create_run_for_job(defs.resolve_job_def("cut"), status=status, tags=tags)
    said = pruned(settings, instance)
    assert keys(instance)[0] == sorted({PRESENT} | (set() if is_over else kept))
    assert said.count("of `cut` has it") == (0 if is_over else len(kept))


def test_partitions_of_deleted_incoming_series_are_removed_and_their_diagnoses_kept(
    settings, instance, tmp_path, monkeypatch
):
    monkeypatch.setenv("LUNA_INCOMING_DIR", str(tmp_path / "incoming"))
    settings = Settings.from_environment()
    register_series(instance, [PRESENT, NEVER_CUT], INCOMING_SERIES_NAME)
    # A folder that is not mounted says nothing about its series.
    assert "incoming" not in pruned(settings, instance)
    write_ct(tmp_path / "incoming", PRESENT, random_hounsfield())
    write_bytes(settings.diagnoses_dir / NEVER_CUT / "report.html", b"kept")
    assert f"Would remove the partition of incoming series {NEVER_CUT}" in pruned(settings, instance, is_removed=False)
    assert f"Removed the partition of incoming series {NEVER_CUT}" in pruned(settings, instance)
    assert instance.get_dynamic_partitions(INCOMING_SERIES_NAME) == [PRESENT]
    assert (settings.diagnoses_dir / NEVER_CUT / "report.html").exists()
