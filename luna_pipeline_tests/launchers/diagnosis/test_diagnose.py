"""A diagnosis from files to files: outputs, reruns, stale files, interruptions, refusals."""

import hashlib
import hmac
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline.core.diagnosis.diagnose import DiagnosisModels
from luna_pipeline.core.diagnosis.recipes import default
from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.launchers.diagnosis import diagnose as launcher
from luna_pipeline.launchers.diagnosis.diagnose import LOCK, OUTPUTS, UNCHANGED, DiagnosisRequest, diagnose_ct
from luna_pipeline.launchers.diagnosis.models import find_models
from luna_pipeline.settings import Settings
from luna_pipeline_tests.diagnosis_models import save_models
from luna_pipeline_tests.phantoms import edit_dicom, write_ct, write_dicom_series
from luna_pipeline_tests.processes import wait_for

RECIPE = default().with_changes(lung_margin_mm=0.0, merge_mm=0.0)
UID = "1.2.840.5"
VOLUME_OUTPUTS = {"nodules.csv", "nodules.json", "lungs.png", "montage.png", "report.html"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as a volume and as a DICOM folder, and an installation with models."""
    root = tmp_path_factory.mktemp("diagnosis")
    series = make_series(PhantomConfig(seed=2, number=5, size_irc=(32, 48, 48)))
    place = {
        "spacing_mm": series.grid.spacing_mm,
        "origin_xyz": series.grid.origin_xyz,
        "direction": series.grid.direction,
    }
    write_ct(root / "volume", UID, series.hounsfield, **place)
    write_dicom_series(root / "dicom", UID, series.hounsfield.clip(-1024), **place)
    # DICOM objects hold findings above the threshold.
    save_models(root / "home", decision=Decision.at(0.01))
    return root


@pytest.fixture
def settings(root: Path) -> Settings:
    return Settings.from_environment({"LUNA_HOME": str(root / "home"), "LUNA_DATA_DIR": str(root / "data")})


@pytest.fixture
def request_of(root: Path, tmp_path: Path):
    def build(**changes) -> DiagnosisRequest:
        values = {"ct": root / f"volume/{UID}.mhd", "out": tmp_path / "out", "recipe": RECIPE}
        return DiagnosisRequest(**(values | changes))

    return build


def stages_of(settings: Settings, request: DiagnosisRequest) -> set[str]:
    seen = set()
    diagnose_ct(settings, request, on_progress=lambda stage, _done, _total: seen.add(stage))
    return seen


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK}


def test_all_outputs_are_written_and_named_with_their_digests(settings: Settings, request_of):
    request = request_of(run_ids={"dagster": "run-1"})
    diagnosis = diagnose_ct(settings, request)
    files = contents(request.out)
    manifest = json.loads(files.pop("diagnosis.json"))
    assert set(files) == VOLUME_OUTPUTS
    assert manifest["outputs"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert (manifest["series_instance_uid"], manifest["run_ids"]) == (UID, {"dagster": "run-1"})
    assert list(manifest["seconds"]) == [
        "reading",
        "models",
        "lungs",
        "segmentation",
        "grouping",
        "classification",
        "malignancy",
        "outputs",
    ]
    rows = pd.read_csv(request.out / "nodules.csv", float_precision="round_trip")
    assert list(rows.columns) == ["seriesuid", "coordX", "coordY", "coordZ", "probability"]
    assert rows["probability"].tolist() == [nodule.probability for nodule in diagnosis.nodules]
    assert len(rows) == len(json.loads(files["nodules.json"])) > 3


def test_loaded_models_are_asked_for_by_the_series_and_used_instead_of_the_installations(
    settings: Settings, request_of, root: Path, tmp_path: Path
):
    empty = Settings.from_environment({"LUNA_HOME": str(tmp_path / "home"), "LUNA_DATA_DIR": str(root / "data")})
    asked = []

    def loaded(uid: str) -> DiagnosisModels:
        asked.append(uid)
        return find_models(settings, series=uid)

    own = diagnose_ct(empty, request_of(), models=loaded)
    assert asked == [UID]
    assert own.models == find_models(settings, series=UID).versions
    # The same models are the same diagnosis, wherever they come from.
    assert UNCHANGED in stages_of(settings, request_of())


def test_dicom_input_gives_dicom_objects_unless_they_are_not_wanted(settings: Settings, request_of, root: Path):
    request = request_of(ct=root / "dicom")
    diagnose_ct(settings, request)
    assert {"sr.dcm", "seg.dcm"} < set(contents(request.out))
    # Files that are there are kept; those that a new diagnosis does not write are removed.
    assert UNCHANGED in stages_of(settings, replace(request, writes_dicom=False))
    assert UNCHANGED not in stages_of(settings, replace(request, writes_dicom=False, again=True))
    assert not {"sr.dcm", "seg.dcm"} & set(contents(request.out))
    assert UNCHANGED not in stages_of(settings, request)


def test_the_same_diagnosis_is_not_made_twice_and_comes_back_whole(settings: Settings, request_of):
    first = diagnose_ct(settings, request_of())
    before = contents(request_of().out)
    seen = []
    second = diagnose_ct(settings, request_of(), on_progress=lambda *values: seen.append(values[0]))
    assert set(seen) == {"reading", "models", UNCHANGED}
    assert contents(request_of().out) == before
    assert [nodule.probability for nodule in second.nodules] == [nodule.probability for nodule in first.nodules]
    assert all((one.mask == two.mask).all() for one, two in zip(first.nodules, second.nodules, strict=True))
    assert UNCHANGED not in stages_of(settings, request_of(again=True))
    after = contents(request_of().out)
    assert {name for name in before if before[name] != after[name]} <= {"diagnosis.json"}


def test_a_missing_or_damaged_output_is_made_again_with_equal_bytes(settings: Settings, request_of, monkeypatch):
    request = request_of()
    diagnosis = diagnose_ct(settings, request)
    before = contents(request.out)
    monkeypatch.setattr(launcher, "diagnose", lambda *_arguments, **_options: diagnosis)
    for number, name in enumerate(before):
        path = request.out / name
        if number % 2:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-9])
        assert UNCHANGED not in stages_of(settings, request)
        after = contents(request.out)
        assert all(after[other] == content for other, content in before.items() if other != "diagnosis.json")
    assert UNCHANGED in stages_of(settings, request)


def test_another_recipe_other_weights_or_another_ct_is_another_diagnosis(settings: Settings, request_of, root: Path):
    request = request_of()
    diagnose_ct(settings, request)
    others = [
        replace(request, recipe=RECIPE.with_changes(min_diameter_mm=2.5)),
        replace(request, classifier=str(root / "home/checkpoints/nodule_classifier/0.0.1/best.pt")),
        replace(request, ct=root / "dicom"),
    ]
    for other in others:
        assert UNCHANGED not in stages_of(settings, other)
        assert UNCHANGED in stages_of(settings, other)


def test_other_files_in_the_folder_are_left_alone_and_stale_outputs_removed(settings: Settings, request_of):
    request = request_of()
    request.out.mkdir()
    for name in ("notes.txt", "seg.dcm", ".hidden"):
        (request.out / name).write_text("mine")
    diagnose_ct(settings, request)
    assert set(contents(request.out)) == {*VOLUME_OUTPUTS, "diagnosis.json", "notes.txt", ".hidden"}
    diagnose_ct(settings, replace(request, recipe=RECIPE.with_changes(lungs_only=False, max_findings=3)))
    assert "lungs.png" not in contents(request.out)


def test_after_an_interruption_no_diagnosis_is_there_and_the_next_run_gives_equal_bytes(
    settings: Settings, request_of, monkeypatch, tmp_path: Path
):
    older = request_of(recipe=RECIPE.with_changes(max_findings=1))
    diagnose_ct(settings, older)
    shutil.copytree(older.out, tmp_path / "older")
    whole = request_of(out=tmp_path / "whole")
    diagnosis = diagnose_ct(settings, whole)
    expected = contents(whole.out)
    # The networks' part, which writes nothing, is not repeated.
    monkeypatch.setattr(launcher, "diagnose", lambda *_arguments, **_options: diagnosis)
    for num_written in range(len(VOLUME_OUTPUTS) + 1):
        request = request_of(out=tmp_path / f"out{num_written}")
        shutil.copytree(tmp_path / "older", request.out)
        with monkeypatch.context() as patch:
            patch.setattr(launcher, "write_bytes", raising_after(num_written))
            with pytest.raises(KeyboardInterrupt):
                diagnose_ct(settings, request)
        assert not (request.out / "diagnosis.json").exists()
        assert UNCHANGED not in stages_of(settings, request)
        got = contents(request.out)
        assert set(got) == set(expected)
        assert {name for name in got if got[name] != expected[name]} <= {"diagnosis.json"}


def raising_after(num_written: int):
    written = []

    def write(path: Path, content: bytes) -> None:
        if len(written) == num_written:
            raise KeyboardInterrupt
        written.append(path)
        write_bytes(path, content)

    return write


def test_a_failed_diagnosis_leaves_the_older_one_as_it_was(settings: Settings, request_of, monkeypatch):
    request = request_of()
    diagnose_ct(settings, request)
    before = contents(request.out)

    def fail(*_arguments, **_options):
        raise ValueError("segmentation failed")

    monkeypatch.setattr(launcher, "diagnose", fail)
    with pytest.raises(ValueError, match="segmentation failed"):
        diagnose_ct(settings, replace(request, again=True))
    assert contents(request.out) == before


def test_a_folder_or_device_that_cannot_be_used_is_refused_before_anything_is_read(
    settings: Settings, request_of, root, monkeypatch
):
    (root / "file").write_text("")
    cases = {
        root / "file": "must be a folder",
        root / "dicom": "outside the CT's folder",
        root / "dicom/out": "outside the CT's folder",
    }
    for out, rule in cases.items():
        with pytest.raises(ValueError, match=rule):
            diagnose_ct(settings, request_of(ct=root / "dicom", out=out))
    with pytest.raises(ValueError, match="device"):
        diagnose_ct(settings, request_of(device="tpu"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="got no CUDA device"):
        diagnose_ct(settings, request_of(device="cuda"))


def test_a_folder_that_cannot_be_written_is_refused_before_the_ct_is_searched(settings: Settings, request_of, root):
    (root / "file").write_text("")
    seen = []
    with pytest.raises(ValueError, match=r"must be writable, got: Not a directory \(.*file/out\)"):
        diagnose_ct(settings, request_of(out=root / "file/out"), on_progress=lambda *values: seen.append(values[0]))
    assert "segmentation" not in seen


def test_of_two_diagnoses_of_one_folder_the_second_waits_and_finds_the_first(
    settings: Settings, request_of, monkeypatch
):
    request, stages = request_of(), []
    real = launcher.diagnose

    def slow(*arguments, **options):
        other.start()
        # The other one has found no diagnosis and waits for the folder.
        wait_for(lambda: "lungs" in stages, limit_seconds=30, what="the second diagnosis")
        return real(*arguments, **options)

    other = threading.Thread(
        target=diagnose_ct, args=(settings, request), kwargs={"on_progress": lambda *values: stages.append(values[0])}
    )
    monkeypatch.setattr(launcher, "diagnose", slow)
    diagnose_ct(settings, request)
    other.join()
    assert UNCHANGED in stages
    assert "segmentation" not in stages


def test_every_output_has_a_place_in_the_list_of_outputs():
    assert set(OUTPUTS) >= VOLUME_OUTPUTS | {"seg.dcm", "sr.dcm"}


def test_with_a_key_outputs_are_deidentified_and_made_again_for_another_choice(root, settings, tmp_path):
    patient = "ZEBEDEE"
    shutil.copytree(root / "dicom", tmp_path / "ct")
    for path in (tmp_path / "ct").iterdir():
        edit_dicom(path, PatientName=patient, PatientID=patient)
    request = DiagnosisRequest(ct=tmp_path / "ct", out=tmp_path / "out", recipe=RECIPE, patient_key=b"k" * 32)
    diagnose_ct(settings, request)
    assert {"seg.dcm", "sr.dcm"} <= {path.name for path in request.out.iterdir()}
    assert not [path.name for path in request.out.iterdir() if patient.encode() in path.read_bytes()]
    assert "k" * 32 not in repr(request)
    stages = []
    diagnose_ct(settings, request, on_progress=lambda stage, *_: stages.append(stage))
    assert UNCHANGED in stages
    diagnose_ct(settings, replace(request, patient_key=None))
    assert patient.encode() in (request.out / "sr.dcm").read_bytes()


def test_with_a_key_a_volume_file_has_a_pseudonym_in_all_outputs(root, settings, tmp_path):
    patient = "ZEBEDEE_JANE"
    for suffix in (".mhd", ".raw"):
        text = (root / f"volume/{UID}{suffix}").read_bytes()
        (tmp_path / f"{patient}{suffix}").write_bytes(text.replace(f"{UID}.raw".encode(), f"{patient}.raw".encode()))
    request = DiagnosisRequest(
        ct=tmp_path / f"{patient}.mhd", out=tmp_path / "out", recipe=RECIPE, patient_key=b"k" * 32
    )
    name = hmac.new(b"k" * 32, patient.encode(), hashlib.sha256).hexdigest()[:16]
    assert diagnose_ct(settings, request).series_instance_uid == name
    contents = {path.name: path.read_bytes() for path in request.out.iterdir() if path.name != LOCK}
    assert {*contents} > VOLUME_OUTPUTS
    assert not [file for file, content in contents.items() if b"ZEBEDEE" in content]
    assert name.encode() in contents["report.html"]
