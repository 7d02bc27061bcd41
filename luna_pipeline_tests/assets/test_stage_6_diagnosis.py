"""Diagnosis of incoming CTs by the job `diagnose`: events, files, checks, failures, outdated diagnoses."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import SimpleITK as sitk

from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.training.checkpoints import CheckpointStore, save_checkpoint
from luna_pipeline_tests.diagnosed import DICOM, EMPTY, VOLUME, Clinic
from luna_pipeline_tests.diagnosis_models import checkpoint_of, save_models


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """An inbox with a volume, a DICOM series, a CT without lungs and an archive; one run of `diagnose` over all."""
    root = tmp_path_factory.mktemp("clinic")
    (root / "incoming").mkdir()
    save_models(root / "home", decision=Decision.at(0.01))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, folder in {"LUNA_HOME": "home", "LUNA_INCOMING_DIR": "incoming", "LUNA_DATA_DIR": "data"}.items():
            patch.setenv(name, str(root / folder))
        patch.setenv("LUNA_INCOMING_QUIET_SECONDS", "0")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        clinic = Clinic(root, instance)
        clinic.add_volume()
        clinic.add_dicom(folder="DOE^JOHN")
        clinic.add_head()
        (clinic.inbox / "scan.zip").write_bytes(b"PK")
        assert not clinic.run().success, "a CT has no lungs"
        yield clinic


def _metadata(clinic: Clinic, asset: str, uid: str) -> dict:
    records = clinic.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[uid]), limit=1
    ).records
    return {name: entry.value for name, entry in records[0].asset_materialization.metadata.items()}


def test_a_run_over_all_diagnoses_each_series_and_fails_only_the_broken_one(clinic: Clinic):
    assert clinic.partitions == [VOLUME, DICOM, EMPTY]
    assert clinic.made("diagnosis") == clinic.made("lungs") == {VOLUME, DICOM}
    assert clinic.shown() == clinic.shown("lungs") == {VOLUME: "MATERIALIZED", DICOM: "MATERIALIZED", EMPTY: "FAILED"}
    folder = clinic.settings.diagnoses_dir
    names = {"report.html", "nodules.csv", "nodules.json", "montage.png", "lungs.png", "diagnosis.json"}
    for uid, more in ((VOLUME, set()), (DICOM, {"seg.dcm", "sr.dcm"})):
        found = {path.name for path in (folder / uid).iterdir() if not path.name.startswith(".")}
        assert found == {*names, *more, "lungs", "incoming.json"}
        assert {path.name for path in (folder / uid / "lungs").iterdir()} == {"lungs.nrrd", "lungs.png"}


def test_page_of_a_diagnosis_has_table_pictures_models_and_seconds(clinic: Clinic):
    shown = _metadata(clinic, "diagnosis", DICOM)
    assert shown["num_findings"] > 3
    columns = [column.name for column in shown["nodules"].schema.columns]
    assert columns[:5] == ["no.", "probability", "malignancy probability", "diameter mm", "x, y, z mm"]
    for name in ("montage", "lungs"):
        assert shown[name].startswith(f"![{name}, research use only](data:image/png;base64,")
        assert len(shown[name]) < 99_000
    segmenter = dict(shown["models"].records[0].data)
    assert segmenter["model"] == "nodule_segmenter 0.0.1"
    assert (segmenter["role"], segmenter["origin"], segmenter["has seen this CT"]) == ("segmenter", "known", "no")
    assert re.match(r"reading [\d.]+, models [\d.]+, lungs [\d.]+, segmentation [\d.]+, ", shown["seconds"])
    assert "Research use only" in shown["notes"]
    assert Path(shown["report"]).is_file()
    assert "cpm" not in " ".join(shown).lower()
    lungs = _metadata(clinic, "lungs", DICOM)
    assert lungs["picture"].startswith("![lungs, research use only](data:image/png")
    assert lungs["volume_ml"] > 0


def test_lung_mask_lies_on_the_grid_of_the_ct(clinic: Clinic):
    mask = sitk.ReadImage(str(clinic.settings.diagnoses_dir / VOLUME / "lungs/lungs.nrrd"))
    ct = sitk.ReadImage(str(clinic.inbox / f"{VOLUME}.mhd"))
    for place in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(mask, place)() == pytest.approx(getattr(ct, place)(), abs=1e-9)
    voxels = sitk.GetArrayFromImage(mask)
    assert set(voxels.ravel()) == {0, 1}
    volume_ml = voxels.sum() * mask.GetSpacing()[0] * mask.GetSpacing()[1] * mask.GetSpacing()[2] / 1000
    assert volume_ml == pytest.approx(_metadata(clinic, "lungs", VOLUME)["volume_ml"], rel=0.01)


def test_checks_name_the_failed_the_unreadable_and_nothing_of_a_patient(clinic: Clinic):
    checks = clinic.checks()
    passed, said = checks["diagnoses_complete"]
    assert not passed
    assert f"got 1 that failed: series {EMPTY}: A CT must show lungs, got" in said
    passed, said = checks["incoming_series_readable"]
    assert not passed
    assert "scan.zip" in said
    assert checks["no_incoming_series_is_gone"][0]
    assert checks["champion_origin"] == (True, "The training scans of every champion are known (there is none).")
    events = clinic.instance.event_log_storage.get_logs_for_run(clinic.instance.get_runs()[-1].run_id)
    assert "DOE" not in str(events)
    assert "Synthetic" not in "".join(str(_metadata(clinic, "diagnosis", DICOM)["nodules"]))


def test_data_version_is_that_of_the_findings_and_runs_do_not_change_it(clinic: Clinic):
    before = json.loads((clinic.settings.diagnoses_dir / VOLUME / "diagnosis.json").read_text())
    assert before["run_ids"]["dagster"] == clinic.instance.get_runs()[-1].run_id
    versions = [_version(clinic, VOLUME)]
    assert clinic.run(partition_key=VOLUME).success
    versions.append(_version(clinic, VOLUME))
    assert versions[0] == versions[1]
    after = json.loads((clinic.settings.diagnoses_dir / VOLUME / "diagnosis.json").read_text())
    assert before == after, "the same voxels, models and recipe are not diagnosed again"


def _version(clinic: Clinic, uid: str) -> str:
    filtered = dg.AssetRecordsFilter(dg.AssetKey("diagnosis"), asset_partitions=[uid])
    record = clinic.instance.fetch_materializations(filtered, limit=1).records[0]
    return record.asset_materialization.tags["dagster/data_version"]


def test_another_champion_diagnoses_nothing_again_unless_asked(clinic: Clinic):
    newer = checkpoint_of("classifier", version="0.0.2", decision=Decision.at(0.02))
    store = CheckpointStore(clinic.root / "home/checkpoints")
    (clinic.inbox / f"{EMPTY}.mhd").unlink()
    save_checkpoint(store.path("nodule_classifier", "0.0.2"), newer)
    assert clinic.ask() == []
    assert clinic.run().success
    assert _used(clinic, VOLUME) == _used(clinic, DICOM) == "0.0.1"
    assert clinic.run(partition_key=VOLUME, only_outdated=True).success
    assert [_used(clinic, uid) for uid in (VOLUME, DICOM)] == ["0.0.2", "0.0.1"]
    made = (clinic.settings.diagnoses_dir / VOLUME / "diagnosis.json").stat().st_mtime_ns
    assert clinic.run(only_outdated=True).success
    assert _used(clinic, DICOM) == "0.0.2"
    assert (clinic.settings.diagnoses_dir / VOLUME / "diagnosis.json").stat().st_mtime_ns == made
    passed, said = clinic.checks()["no_incoming_series_is_gone"]
    assert not passed
    assert EMPTY in said
    assert clinic.checks()["diagnoses_complete"][0], "a deleted series is no failure"


def _used(clinic: Clinic, uid: str) -> str:
    manifest = json.loads((clinic.settings.diagnoses_dir / uid / "diagnosis.json").read_text())
    return next(model["version"] for model in manifest["models"] if model["role"] == "classifier")


def test_series_that_is_not_there_and_a_missing_model_are_refused_in_one_line(clinic: Clinic):
    gone = clinic.run(partition_key=EMPTY)
    assert "must be in the folder of incoming CTs, got none" in _message(gone)
    missing = clinic.run(partition_key=VOLUME, segmenter="no_such_model")
    assert "no_such_model" in _message(missing)
    failure = next(event for event in missing.all_events if event.is_step_failure).step_failure_data
    assert failure.user_failure_data.metadata["is_transient"].value is True


def _message(result: dg.ExecuteInProcessResult) -> str:
    (event,) = (event for event in result.all_events if event.is_step_failure)
    return event.step_failure_data.error.message
