"""The models of a diagnosis: addresses, defaults, roles, and one line for each thing that is wrong."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.training.checkpoints import CheckpointError, save_checkpoint
from luna_pipeline.launchers.diagnosis.models import find_models, weights_sha256
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_registry import promote
from luna_pipeline_tests.diagnosis_models import checkpoint_of, register, save_models


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"LUNA_HOME": str(tmp_path / "home"), "LUNA_DATA_DIR": str(tmp_path / "data")})


def found(settings: Settings, **addresses):
    return find_models(settings, series="1.2.3", **addresses)


def line_of(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_without_addresses_the_newest_checkpoints_are_used(settings: Settings):
    save_models(settings.home)
    save_models(settings.home, "classifier", version="0.0.2")
    models = found(settings)
    assert [(version.role, version.name, version.version) for version in models.versions] == [
        ("segmenter", "nodule_segmenter", "0.0.1"),
        ("classifier", "nodule_classifier", "0.0.2"),
        ("malignancy", "malignancy_classifier", "0.0.1"),
    ]
    assert models.classifier.version.address == "nodule_classifier 0.0.2"
    assert models.classifier.chunk_shape_irc == (8, 8, 8)


def test_malignancy_is_optional_and_the_books_models_come_last(settings: Settings):
    save_models(settings.home, "segmenter", name="book_nodule_segmenter")
    save_models(settings.home, "classifier", name="book_nodule_classifier", has_unknown_origin=True)
    models = found(settings)
    assert models.malignancy is None
    assert models.segmenter.version.name == "book_nodule_segmenter"
    assert models.classifier.version.has_unknown_origin
    save_models(settings.home, "classifier")
    assert found(settings).classifier.version.name == "nodule_classifier"


def test_addresses_are_files_names_and_versions(settings: Settings, tmp_path: Path):
    save_models(settings.home)
    save_models(settings.home, "classifier", version="0.0.2")
    save_checkpoint(tmp_path / "mine.pt", checkpoint_of("classifier", name="mine"))
    cases = {
        str(tmp_path / "mine.pt"): ("mine", "0.0.1", "mine.pt"),
        "nodule_classifier": ("nodule_classifier", "0.0.2", "nodule_classifier 0.0.2"),
        "nodule_classifier 0.0.1": ("nodule_classifier", "0.0.1", "nodule_classifier 0.0.1"),
        "classification": ("nodule_classifier", "0.0.2", "nodule_classifier 0.0.2"),
    }
    for address, expected in cases.items():
        version = found(settings, classifier=address).classifier.version
        assert (version.name, version.version, version.address) == expected
    assert found(settings, malignancy="malignant classification").malignancy is not None


def test_a_file_whose_name_is_no_text_has_an_address_that_outputs_can_hold(settings: Settings, tmp_path: Path):
    save_models(settings.home)
    path = Path(os.fsdecode(bytes(tmp_path) + b"/s\xff.pt"))
    save_checkpoint(path, checkpoint_of("segmenter"))
    address = found(settings, segmenter=str(path)).segmenter.version.address
    assert address.encode() == b"s\\xff.pt"


def test_what_a_model_has_seen_and_its_threshold_are_in_its_version(settings: Settings):
    decision = Decision(threshold=0.4, method="isotonic", isotonic_scores=(0.0, 1.0), isotonic_probabilities=(0.2, 0.6))
    save_models(settings.home, "segmenter", training_series=["1.2.4"], inherited_validation_series=["1.2.3"])
    save_models(settings.home, "classifier", training_series=["1.2.4"], decision=decision, mlflow_run_id="run")
    models = found(settings)
    assert models.segmenter.version.has_seen_series
    assert models.segmenter.version.threshold is None
    version = models.classifier.version
    assert (version.has_seen_series, version.mlflow_run_id) == (False, "run")
    # On the scale of calibrated probabilities.
    assert version.threshold == pytest.approx(0.36)


def test_the_digest_of_weights_follows_names_shapes_and_values():
    weights = {"a": torch.zeros(2, 3), "b": torch.tensor(1.0)}
    same = {"b": torch.tensor(1.0), "a": torch.zeros(3, 2).T}
    assert weights_sha256(weights) == weights_sha256(same)
    for other in (
        {"a": torch.zeros(3, 2), "b": torch.tensor(1.0)},
        {"a": torch.zeros(2, 3), "c": torch.tensor(1.0)},
        {"a": torch.zeros(2, 3), "b": torch.tensor(2.0)},
        {"a": torch.zeros(2, 3).double(), "b": torch.tensor(1.0)},
    ):
        assert weights_sha256(weights) != weights_sha256(other)


def test_no_model_is_one_line_that_says_what_to_do(settings: Settings):
    with pytest.raises(FileNotFoundError) as error:
        found(settings)
    text = line_of(error)
    assert "got no segmenter and no classifier" in text
    assert "import_book_weights" in text
    save_models(settings.home, "segmenter")
    with pytest.raises(FileNotFoundError) as error:
        found(settings)
    assert "got no classifier (" in line_of(error)


@pytest.mark.parametrize(
    ("role", "other"), [("segmenter", "classifier"), ("classifier", "segmenter"), ("malignancy", "classifier")]
)
def test_a_model_of_another_role_is_refused_by_name(settings: Settings, role: str, other: str):
    save_models(settings.home)
    name = checkpoint_of(other).name
    with pytest.raises(ValueError, match=f"given as {role} must be .*{name} 0.0.1.*as {other}") as error:
        found(settings, **{role: name})
    line_of(error)


def test_missing_and_damaged_models_are_refused_by_name(settings: Settings, tmp_path: Path):
    save_models(settings.home)
    path = settings.home / "checkpoints/nodule_classifier/0.0.1/best.pt"
    shutil.copy(path, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes(path.read_bytes()[:1000])
    (tmp_path / "text.pt").write_text("no checkpoint")
    cases = {
        str(tmp_path / "cut.pt"): CheckpointError,
        str(tmp_path / "text.pt"): CheckpointError,
        str(tmp_path / "none.pt"): FileNotFoundError,
        "nodule_classifier 9": FileNotFoundError,
        "another": FileNotFoundError,
        "../elsewhere": ValueError,
        "models:/nodule_classifier": ValueError,
        "models:/@champion": ValueError,
        "models:/nodule_classifier@champion": FileNotFoundError,
        "models:/nodule_classifier/3": FileNotFoundError,
    }
    for address, kind in cases.items():
        with pytest.raises(kind) as error:
            found(settings, classifier=address)
        assert "got" in line_of(error), address


def test_the_champion_comes_first_and_is_named_by_its_alias(settings: Settings, tracking_uri: str):
    settings = replace(settings, mlflow_tracking_uri=tracking_uri)
    save_models(settings.home)
    number = register(settings, checkpoint_of("classifier", version="0.0.7"))
    assert found(settings).classifier.version.version == "0.0.1"
    promote(tracking_uri, "nodule_classifier", number)
    for address in (None, "models:/nodule_classifier@champion", f"models:/nodule_classifier/{number}"):
        version = found(settings, classifier=address).classifier.version
        assert (version.name, version.version) == ("nodule_classifier", "0.0.7")
        assert version.address == (address or "models:/nodule_classifier@champion")
    with pytest.raises(FileNotFoundError, match="got no nodule_classifier @contender"):
        found(settings, classifier="models:/nodule_classifier@contender")
