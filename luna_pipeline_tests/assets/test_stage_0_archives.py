"""The asset that downloads a subset of LUNA16, from a local server."""

import hashlib
from pathlib import Path

import dagster as dg
import pytest

from luna_pipeline.assets.stage_0_archives import LUNA16_SUBSETS
from luna_pipeline.definitions import defs
from luna_pipeline_tests.archive_server import checksums, refuses, serving, zipped

KEY = dg.AssetKey("luna16_archives")


@pytest.fixture
def server(phantom_source: Path):
    tables = {name: (phantom_source / name).read_bytes() for name in ("annotations.csv", "candidates_V2.csv")}
    others = {"annotations_excluded.csv": b"seriesuid\n", "seriesuids.csv": b"1.2\n"}
    with serving({"subset1.zip": zipped(phantom_source, 1), **tables, **others}) as server:
        yield server


def download(server, instance: dg.DagsterInstance, folder: Path, key: str = "subset1") -> dg.ExecuteInProcessResult:
    config = {"base": server.base, "checksums": str(checksums(server.files, folder / "sums.txt"))}
    return defs.resolve_job_def("download_luna16").execute_in_process(
        instance=instance,
        partition_key=key,
        run_config={"ops": {"luna16_archives": {"config": config}}},
        raise_on_error=False,
    )


def test_partitions_are_the_ten_subsets():
    assert LUNA16_SUBSETS.get_partition_keys() == [f"subset{number}" for number in range(10)]


def test_a_partition_downloads_its_subset_and_says_what_came(server, phantom_source, tmp_path, monkeypatch):
    # The folder of the source, where the root holds several.
    (tmp_path / "data/luna16").mkdir(parents=True)
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "*")
    content = server.files["subset1.zip"]
    with dg.DagsterInstance.ephemeral() as instance:
        assert download(server, instance, tmp_path).success
        made = instance.get_latest_materialization_event(KEY).asset_materialization
    found = {name: value.value for name, value in made.metadata.items()}
    raw = sum(path.stat().st_size for path in (phantom_source / "subset1").iterdir())
    assert found.pop("seconds") >= 0
    assert found == {
        "num_bytes": len(content),
        "num_downloaded": len(content),
        "num_members": 4,
        "num_unpacked_bytes": raw,
        "md5": hashlib.md5(content).hexdigest(),
    }
    assert made.partition == "subset1"
    for path in (phantom_source / "subset1").iterdir():
        assert (tmp_path / "data/luna16/subset1" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "data/luna16/annotations.csv").exists()


def test_a_partition_that_does_not_arrive_fails_with_the_reason(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "*")
    server.fault = lambda name, start, stop, number: refuses(410) if name == "subset1.zip" else None
    with dg.DagsterInstance.ephemeral() as instance:
        result = download(server, instance, tmp_path)
        assert not result.success
        assert instance.get_latest_materialization_event(KEY) is None
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "got 1 failures: subset1.zip: The server must serve the file as it is, got status 410" in str(
        failure.step_failure_data.error
    )
