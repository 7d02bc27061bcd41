"""LUNA25's container form and its score, by the commands: outputs, agreement with a diagnosis, refusals in one line."""

import json
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.diagnosis.classifying import classify
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline.core.sources.luna25_container import CLINICAL_INFORMATION, CT_FOLDER, LIKELIHOODS, LOCATIONS
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline_tests.command_line import Done, run_here
from luna_pipeline_tests.core.sources.luna25_tables import annotation, write_table
from luna_pipeline_tests.diagnosis_models import CHUNK_IRC, save_models, small_classifier
from luna_pipeline_tests.phantoms import write_ct

UID = "1.2.840.113654.2.55.1"
CHEST = make_series(PhantomConfig(seed=2, number=3, size_irc=(40, 72, 72)))
HOUNSFIELD = CHEST.hounsfield.clip(-1024)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save_models(tmp_path / "home", "malignancy")
    return tmp_path


def write_case(root: Path, points, *, direction=CHEST.grid.direction, is_informed: bool = True) -> Path:
    """A case in the form of the challenge's example."""
    folder = root / "case"
    place = {"spacing_mm": CHEST.grid.spacing_mm, "origin_xyz": CHEST.grid.origin_xyz, "direction": direction}
    write_ct(folder / CT_FOLDER, UID, HOUNSFIELD, suffix=".mha", is_compressed=True, **place)
    named = [{"name": f"100012_{number}_19990102", "point": point} for number, point in enumerate(points, start=1)]
    version = {"major": 1, "minor": 0}
    values = {"name": "Points of interest", "type": "Multiple points", "points": named, "version": version}
    (folder / LOCATIONS).write_text(json.dumps(values))
    if is_informed:
        (folder / CLINICAL_INFORMATION).write_text(json.dumps({"gender": "FEMALE", "age": 71}))
    return folder


def points_of(*voxels) -> list[list[float]]:
    return [[float(value) for value in CHEST.grid.voxel_to_world(voxel)] for voxel in voxels]


def luna(root: Path, *arguments: object) -> "Done[str]":
    environment = {"LUNA_HOME": str(root / "home"), "LUNA_DATA_DIR": str(root)}
    return run_here(*(str(word) for word in arguments), cwd=root, environment=environment)


def refused(done: "Done[str]", *parts: str) -> None:
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "100012" not in done.stderr
    for part in parts:
        assert part in done.stderr


def test_a_case_is_scored_in_the_form_of_the_challenge(root: Path):
    points = points_of((20, 30, 40), (5.3, 50, 20.4), (39, 71, 71))
    done = luna(root, "predict_luna25", "--input", write_case(root, points), "--output", root / "out")
    assert done.returncode == 0, done.stderr
    assert "3 nodules by malignancy_classifier 0.0.1" in done.stdout
    assert "Research use only" in done.stdout
    assert [path.name for path in (root / "out").iterdir()] == ["lung-nodule-malginancy-likelihoods.json"]
    written = json.loads((root / "out" / LIKELIHOODS).read_text())
    assert {name: written[name] for name in ("name", "type", "version")} == {
        "name": "Points of interest",
        "type": "Multiple points",
        "version": {"major": 1, "minor": 0},
    }
    assert set(written) == {"name", "type", "version", "points"}
    assert [point["name"] for point in written["points"]] == [f"100012_{number}_19990102" for number in (1, 2, 3)]
    assert [point["point"] for point in written["points"]] == points
    # Cut around the nearest voxel, with the mirrored copies of a diagnosis.
    expected = classify(
        small_classifier(1),
        HOUNSFIELD,
        CHEST.grid,
        np.array(points),
        parameters=CuttingParameters(CHUNK_IRC),
        num_flips=8,
        mirrored_from=0.01,
    )
    assert [point["probability"] for point in written["points"]] == expected.tolist()
    assert len(set(expected.tolist())) == 3


def test_a_flipped_ct_gives_the_same_scores_at_the_same_places(root: Path):
    points = points_of((20, 30, 40), (5, 50, 20))
    folder = write_case(root, points)
    assert luna(root, "predict_luna25", "--input", folder, "--output", root / "a").returncode == 0
    path = folder / CT_FOLDER / f"{UID}.mha"
    flipped = sitk.Flip(sitk.ReadImage(str(path)), [False, True, True])
    sitk.WriteImage(flipped, str(path))
    assert read_ct(path, series_instance_uid=UID).grid.direction != CHEST.grid.direction
    model = root / "home" / "checkpoints" / "malignancy_classifier" / "0.0.1" / "best.pt"
    done = luna(root, "predict_luna25", "--input", folder, "--output", root / "b", "--model", model)
    assert done.returncode == 0, done.stderr
    a, b = (json.loads((root / name / LIKELIHOODS).read_text()) for name in "ab")
    assert a == b


def test_a_case_without_nodules_has_an_output_without_points(root: Path):
    folder = write_case(root, [], is_informed=False)
    done = luna(root, "predict_luna25", "--input", folder, "--output", root / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((root / "out" / LIKELIHOODS).read_text())["points"] == []
    assert "no clinical information" in done.stdout


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda folder: (folder / LOCATIONS).unlink(), ("A case must have nodule-locations.json",)),
        (lambda folder: (folder / LOCATIONS).write_text("{"), ("must be a JSON file",)),
        (lambda folder: (folder / LOCATIONS).write_text('{"type": "Point", "points": []}'), ("Multiple points",)),
        (lambda folder: (folder / CLINICAL_INFORMATION).write_text("[]"), ("Clinical information",)),
        (lambda folder: (folder / CT_FOLDER / f"{UID}.mha").unlink(), ("got no .mha file",)),
        (lambda folder: (folder / CT_FOLDER / "2.mha").touch(), ("got 2 .mha files",)),
        (lambda folder: (folder / CT_FOLDER / f"{UID}.mha").write_bytes(b"x" * 99), ("MetaImage",)),
    ],
)
def test_a_malformed_case_is_refused_in_one_line(root: Path, change, parts):
    folder = write_case(root, points_of((20, 30, 40)))
    change(folder)
    refused(luna(root, "predict_luna25", "--input", folder, "--output", root / "out"), *parts)
    assert not (root / "out" / LIKELIHOODS).exists()


@pytest.mark.parametrize("point", [[1, 2], [1, 2, "3"], None, [1, 2, True], [1, 2, 1e9], [1e4, 0, 0]])
def test_a_point_that_is_no_place_in_the_ct_is_refused_by_its_number(root: Path, point):
    folder = write_case(root, [*points_of((20, 30, 40)), point])
    refused(luna(root, "predict_luna25", "--input", folder, "--output", root / "out"), "point 2")


def test_another_model_or_none_is_refused(root: Path):
    folder = write_case(root, points_of((20, 30, 40)))
    save_models(root / "home", "classifier")
    other = ("predict_luna25", "--input", folder, "--output", root / "out")
    refused(luna(root, *other, "--model", "nodule_classifier"), "must be a classifier of malignancy")
    (root / "home" / "checkpoints" / "malignancy_classifier" / "0.0.1" / "best.pt").unlink()
    refused(luna(root, *other), "A classifier of malignancy must be there", "--model")


def test_the_score_is_printed_and_written_with_the_official_names(root: Path):
    rows = [
        annotation(patient, 1, date=f"200{year}0101", label=int(patient < 15))
        for patient in range(60)
        for year in (1, 2)
    ]
    truth = write_table(root / "truth.csv", rows)
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.random(60) + 0.3 * (np.arange(60) < 15), 2) / 1.3
    table = pd.DataFrame({"AnnotationID": [row["AnnotationID"] for row in rows], "probability": scores}).iloc[:-2]
    table.to_csv(root / "p.csv", index=False)
    done = luna(root, "evaluate_luna25", "--truth", truth, "--predictions", root / "p.csv", "--json", root / "e.json")
    assert done.returncode == 0, done.stderr
    values = json.loads((root / "e.json").read_text())
    assert "2 annotations without a prediction are left out." in done.stdout
    assert "118 annotations of 59 patients, 30 malignant." in done.stdout
    assert f"AUC {values['Final Score']:.6f}  [{values['AUC 95% CI lower bound']:.6f}" in done.stdout
    assert done.stdout.rstrip().endswith("Research use only; not a medical device.")
    # Each nodule twice: the patients' interval is the wider one.
    lower, upper = values["more"]["auc_patient_bounds"]
    assert upper - lower > 1.2 * (values["AUC 95% CI upper bound"] - values["AUC 95% CI lower bound"])


@pytest.mark.real
@pytest.mark.slow
def test_a_real_case_takes_less_than_five_minutes_and_scores_its_nodules(root: Path, real_data: Path):
    """LIDC-IDRI-0003 as ``.mha`` with its three annotated nodules, by a network of the default size."""
    reader = sitk.ImageSeriesReader()
    with tarfile.open(real_data / "lidc" / "LIDC-IDRI-0003.tar.xz") as archive:
        archive.extractall(root / "dicom", filter="data")
    folder = str(next((root / "dicom").rglob("*.dcm")).parent)
    (uid,) = reader.GetGDCMSeriesIDs(folder)
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder, uid))
    case = write_case(root, [])
    (case / CT_FOLDER / f"{UID}.mha").unlink()
    sitk.WriteImage(reader.Execute(), str(case / CT_FOLDER / f"{uid}.mha"), useCompression=True)
    table = pd.read_csv(real_data / "luna16" / "annotations.csv").query("seriesuid == @uid")
    points = table[["coordX", "coordY", "coordZ"]].to_numpy().tolist()
    named = [{"name": f"3_{number}_20000101", "point": point} for number, point in enumerate(points)]
    (case / LOCATIONS).write_text(json.dumps({"type": "Multiple points", "points": named}))
    network = build_network(NetworkConfig())
    state = {name: values.clone() for name, values in network.state_dict().items()}
    config = TrainingConfig(name="malignancy_classifier", version="1", network=NetworkConfig())
    config = config.with_changes(dataset="malignant_cutouts")
    save_models(root / "home", "malignancy", version="1", config=config, model_state=state)
    started = time.perf_counter()
    done = luna(root, "predict_luna25", "--input", case, "--output", root / "out")
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 300
    scores = [point["probability"] for point in json.loads((root / "out" / LIKELIHOODS).read_text())["points"]]
    # Its weights are random: that it has a score for each nodule is all that is known of them.
    assert len(scores) == 3
    assert all(0 <= score <= 1 for score in scores)
