"""Loaded models: loaded once, replaced when their places change, kept when others cannot be loaded."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from luna_pipeline.cli import cli
from luna_pipeline.serving import loaded_models
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.loaded_models import LoadedModels, check_models
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_registry import promote
from luna_pipeline.tracking.outbox import TrackerUnavailableError
from luna_pipeline_tests.diagnosis_models import checkpoint_of, register, save_models


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"LUNA_HOME": str(tmp_path / "home"), "LUNA_DATA_DIR": str(tmp_path / "data")})


def loaded(settings: Settings, **config) -> LoadedModels:
    return LoadedModels(settings, ServiceConfig(**config), look_seconds=0)


def test_models_are_loaded_once_and_know_what_they_have_seen(settings: Settings):
    save_models(settings.home)
    models = loaded(settings)
    seen, unseen = models.for_series("1.2.3"), models.for_series("1.2.4")
    assert seen.classifier.network is unseen.classifier.network
    assert [version.has_seen_series for version in seen.versions] == [True, True, True]
    assert [version.has_seen_series for version in unseen.versions] == [False, False, False]
    assert [version.role for version in models.versions()] == ["segmenter", "classifier", "malignancy"]


def test_a_newer_version_replaces_only_the_model_of_its_role(settings: Settings):
    save_models(settings.home)
    models = loaded(settings)
    before = models.for_series("")
    save_models(settings.home, "classifier", version="0.0.2")
    after = models.for_series("")
    assert (before.classifier.version.version, after.classifier.version.version) == ("0.0.1", "0.0.2")
    assert after.segmenter.network is before.segmenter.network


def test_the_places_are_looked_at_only_after_the_interval(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    seconds = [100.0]
    monkeypatch.setattr(loaded_models.time, "monotonic", lambda: seconds[0])
    save_models(settings.home)
    models = LoadedModels(settings, ServiceConfig(), look_seconds=5)
    models.for_series("")
    save_models(settings.home, "classifier", version="0.0.2")
    versions = []
    for now in (104.9, 105.0):
        seconds[0] = now
        versions.append(models.for_series("").classifier.version.version)
    assert versions == ["0.0.1", "0.0.2"]


def test_an_address_of_the_configuration_is_used_and_a_replaced_file_is_loaded(settings: Settings):
    save_models(settings.home)
    save_models(settings.home, "classifier", version="0.0.2")
    models = loaded(settings, classifier="nodule_classifier 0.0.1")
    before = models.for_series("").classifier.version
    changed = checkpoint_of("classifier")
    changed.model_state["luna_head.head_linear.bias"] += 1
    save_models(settings.home, "classifier", model_state=changed.model_state)
    after = models.for_series("").classifier.version
    assert before.version == after.version == "0.0.1"
    assert before.weights_sha256 != after.weights_sha256


def test_a_damaged_newer_version_leaves_the_loaded_models_in_use(settings: Settings, caplog: pytest.LogCaptureFixture):
    save_models(settings.home)
    models = loaded(settings)
    before = models.for_series("")
    damaged = settings.home / "checkpoints/nodule_classifier/0.0.2/best.pt"
    damaged.parent.mkdir()
    damaged.write_bytes(b"no checkpoint")
    assert models.for_series("").classifier.network is before.classifier.network
    assert "The loaded models stay in use" in caplog.text
    with pytest.raises(ValueError, match="must be a checkpoint"):
        loaded(settings).for_series("")


def test_without_models_the_error_says_what_to_do(settings: Settings):
    models = loaded(settings)
    with pytest.raises(FileNotFoundError, match="A diagnosis needs a segmenter and a nodule classifier"):
        models.for_series("")
    save_models(settings.home)
    assert models.for_series("").classifier.version.version == "0.0.1"


def test_during_an_outage_one_call_looks_and_the_others_get_its_error_until_the_interval_is_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    seconds, looks = [100.0], []

    def unavailable(*_given):
        looks.append(seconds[0])
        seconds[0] += 30
        raise TrackerUnavailableError("MLflow must be reached, got no answer.")

    monkeypatch.setattr(loaded_models.time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(loaded_models, "find_places", unavailable)
    models = LoadedModels(settings, ServiceConfig(), look_seconds=5)
    # A look takes 30 s, and the next one comes 5 s after its end.
    for now in (100.0, 130.0, 134.9, 135.0):
        seconds[0] = now
        with pytest.raises(TrackerUnavailableError, match="got no answer"):
            models.for_series("")
    assert looks == [100.0, 135.0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"classifier": "nodule_clasifier"}, "got none"),
        ({"classifier": "models:/nodule_classifier"}, "must be models:/NAME@ALIAS or models:/NAME/VERSION, got"),
        ({"segmenter": "malignancy_classifier"}, "given as segmenter must be a segmenter, got a classifier of mal"),
        (
            {"malignancy": "nodule_segmenter 0.0.1"},
            "must be a classifier of malignancy, got a segmenter",
        ),
        ({"recipe": "fast"}, "fast"),
        ({"device": "gpu"}, "device must be"),
    ],
)
def test_a_configuration_that_names_what_is_not_there_is_refused(settings: Settings, values: dict, words: str):
    save_models(settings.home)
    check_models(settings, ServiceConfig(classifier="nodule_classifier 0.0.1", malignancy="malignancy_classifier"))
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        check_models(settings, ServiceConfig(**values))


def test_a_service_starts_while_the_registry_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def unavailable(*_given):
        raise TrackerUnavailableError("MLflow must be reached, got no answer.")

    monkeypatch.setattr(loaded_models, "find_place", unavailable)
    check_models(settings, ServiceConfig(classifier="models:/nodule_classifier@champion"))
    assert "The classifier is not checked, because its store does not answer" in caplog.text


def test_the_command_refuses_to_start_with_a_model_that_is_not_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LUNA_HOME", str(settings.home))
    # It would be refused for this host, too, but later.
    done = CliRunner().invoke(cli, ["serve", "--host", "0.0.0.0", "--model", "nodule_clasifier"])
    assert isinstance(done.exception, FileNotFoundError)
    assert "nodule_clasifier" in str(done.exception)


def test_threads_share_one_load_and_are_not_stopped_by_a_later_one(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    save_models(settings.home)
    models = loaded(settings)
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(lambda _: models.for_series("").classifier.network, range(8)))
    assert len(set(map(id, first))) == 1
    is_loading, may_load = threading.Event(), threading.Event()
    load_place = loaded_models.load_place

    def slow_load(*arguments):
        is_loading.set()
        assert may_load.wait(10)
        return load_place(*arguments)

    monkeypatch.setattr(loaded_models, "load_place", slow_load)
    save_models(settings.home, "classifier", version="0.0.2")
    with ThreadPoolExecutor(1) as pool:
        changed = pool.submit(models.for_series, "")
        assert is_loading.wait(10)
        assert models.for_series("").classifier.version.version == "0.0.1"
        may_load.set()
        assert changed.result(10).classifier.version.version == "0.0.2"


def test_the_champion_is_switched_without_a_restart_and_a_lost_registry_changes_nothing(
    settings: Settings, tracking_uri: str
):
    settings = replace(settings, mlflow_tracking_uri=tracking_uri)
    save_models(settings.home)
    numbers = [register(settings, checkpoint_of("classifier", version=version)) for version in ("0.1", "0.2")]
    models = loaded(settings)
    used = [models.for_series("").classifier.version.version]
    for number in (*numbers, numbers[0]):
        promote(tracking_uri, "nodule_classifier", number)
        used.append(models.for_series("").classifier.version.version)
    assert used == ["0.0.1", "0.1", "0.2", "0.1"]
    Path(tracking_uri.removeprefix("sqlite:///")).write_bytes(b"no database any more")
    assert models.for_series("").classifier.version.version == "0.1"
