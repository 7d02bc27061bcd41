"""Classifying cutouts of concurrent requests: the scores of the network, batched together, by the present champion."""

import threading
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest
import torch

from luna_pipeline.core.export.formats import onnx_bytes, run_module, to_program
from luna_pipeline.core.export.probability import published
from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.launchers.diagnosis.models import weights_sha256
from luna_pipeline.launchers.export import fastest_form
from luna_pipeline.serving import cutout_classifier
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.cutout_classifier import CutoutClassifier
from luna_pipeline.serving.cutout_upload import CutoutsError
from luna_pipeline.serving.loaded_models import LoadedModels
from luna_pipeline.settings import Settings
from luna_pipeline_tests.diagnosis_models import CHUNK_IRC, checkpoint_of, save_models, small_classifier

# Calibrated probabilities of scores 0 and 1: 0.2 and 0.6.
DECISION = Decision(threshold=0.5, method="isotonic", isotonic_scores=(0.0, 1.0), isotonic_probabilities=(0.2, 0.6))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    save_models(tmp_path / "home", decision=DECISION)
    return Settings.from_environment({"LUNA_HOME": str(tmp_path / "home"), "LUNA_DATA_DIR": str(tmp_path / "data")})


@pytest.fixture
def models(settings: Settings) -> LoadedModels:
    return LoadedModels(settings, ServiceConfig(), look_seconds=0)


@pytest.fixture
def classifier(settings: Settings, models: LoadedModels) -> CutoutClassifier:
    return CutoutClassifier(models, settings)


def cutouts(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1001, (count, *CHUNK_IRC), dtype=np.int16)


def scores_by_hand(ct_chunks: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        logits = small_classifier()(torch.from_numpy(ct_chunks.astype(np.float32))[:, None])
        return logits.softmax(dim=1)[:, 1].double().numpy()


def test_scores_are_the_networks_and_probabilities_are_calibrated(classifier: CutoutClassifier):
    own = cutouts(70)
    found = classifier.submit(own).result(60)
    np.testing.assert_allclose(found.scores, scores_by_hand(own), atol=1e-6)
    np.testing.assert_allclose(found.probabilities, 0.2 + 0.4 * found.scores, atol=1e-12)
    assert (found.model.name, found.model.version) == ("nodule_classifier", "0.0.1")
    assert found.scores.std() > 0.1


def test_values_outside_the_window_count_as_its_ends(classifier: CutoutClassifier):
    own = cutouts(3)
    own[0, 0, 0] = (-32768, 32767, -2000, 1200, -1000, 1000, 0, 5)
    clipped = own.copy()
    clipped[0, 0, 0] = (-1000, 1000, -1000, 1000, -1000, 1000, 0, 5)
    np.testing.assert_array_equal(
        classifier.submit(own).result(60).scores, classifier.submit(clipped).result(60).scores
    )


def test_requests_that_wait_are_scored_in_one_pass_and_keep_their_own_results(
    classifier: CutoutClassifier, monkeypatch: pytest.MonkeyPatch
):
    passes, is_inside, may_run = [], threading.Event(), threading.Event()
    predict = cutout_classifier.predict

    def counted(module, batches):
        is_inside.set()
        assert may_run.wait(60)
        ids, scores = predict(module, batches)
        passes.append(len(ids))
        return ids, scores

    monkeypatch.setattr(cutout_classifier, "predict", counted)
    parts = [cutouts(count, seed=count) for count in (1, 4, 2, 3)]
    futures = [classifier.submit(parts[0])]
    assert is_inside.wait(60)
    futures += [classifier.submit(part) for part in parts[1:]]
    may_run.set()
    wait(futures, timeout=60)
    for part, future in zip(parts, futures, strict=True):
        np.testing.assert_allclose(future.result().scores, scores_by_hand(part), atol=1e-6)
    assert passes == [1, 9]


def test_a_pass_takes_no_more_cutouts_than_fit_and_none_is_left(
    classifier: CutoutClassifier, monkeypatch: pytest.MonkeyPatch
):
    passes, is_scoring, may_run = [], threading.Event(), threading.Event()
    predict = cutout_classifier.predict

    def counted(module, batches):
        is_scoring.set()
        assert may_run.wait(60)
        ids, scores = predict(module, batches)
        passes.append(len(ids))
        return ids, scores

    monkeypatch.setattr(cutout_classifier, "predict", counted)
    monkeypatch.setattr(cutout_classifier, "MAX_AT_ONCE", 5)
    futures = [classifier.submit(cutouts(1))]
    assert is_scoring.wait(60)
    futures += [classifier.submit(cutouts(count)) for count in (2, 3, 1, 7, 4)]
    may_run.set()
    assert [len(future.result(60).scores) for future in futures] == [1, 2, 3, 1, 7, 4]
    # A larger request is a pass of its own.
    assert passes == [1, 5, 1, 7, 4]


def test_a_cancelled_request_is_not_scored(classifier: CutoutClassifier, monkeypatch: pytest.MonkeyPatch):
    is_inside, may_run = threading.Event(), threading.Event()
    predict = cutout_classifier.predict

    def held(*given):
        is_inside.set()
        assert may_run.wait(60)
        return predict(*given)

    monkeypatch.setattr(cutout_classifier, "predict", held)
    first = classifier.submit(cutouts(1))
    assert is_inside.wait(60)
    second, third = (classifier.submit(cutouts(count)) for count in (2, 3))
    assert second.cancel()
    may_run.set()
    assert [len(future.result(60).scores) for future in (first, third)] == [1, 3]
    assert second.cancelled()


def test_cutouts_of_another_shape_are_refused_and_the_others_answered(classifier: CutoutClassifier):
    other, fitting = classifier.submit(np.zeros((1, 4, 4, 4), np.int16)), classifier.submit(cutouts(2))
    with pytest.raises(CutoutsError, match=r"must have \(8, 8, 8\) voxels, got \(4, 4, 4\)"):
        other.result(60)
    assert len(fitting.result(60).scores) == 2


def test_after_a_switch_the_new_network_scores_and_is_named(
    classifier: CutoutClassifier, settings: Settings, models: LoadedModels
):
    own = cutouts(4)
    before = classifier.submit(own).result(60)
    changed = checkpoint_of("classifier", version="0.0.2")
    changed.model_state["luna_head.head_linear.bias"] += torch.tensor([0.0, 5.0])
    save_models(settings.home, "classifier", version="0.0.2", model_state=changed.model_state)
    # Requests never wait for a look.
    assert classifier.submit(own).result(60).model.version == "0.0.1"
    models.versions()
    after = classifier.submit(own).result(60)
    assert (before.model.version, after.model.version) == ("0.0.1", "0.0.2")
    assert (after.scores > before.scores).all()


def test_a_network_that_fails_fails_all_waiting_requests_and_the_next_ones_are_answered(
    classifier: CutoutClassifier, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(cutout_classifier, "predict", lambda *_given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            classifier.submit(cutouts(1)).result(60)
    assert len(classifier.submit(cutouts(1)).result(60).scores) == 1


def test_an_onnx_form_that_was_measured_as_faster_is_used(classifier: CutoutClassifier, settings: Settings):
    own, other = cutouts(40), checkpoint_of("classifier")
    other.model_state["luna_head.head_linear.bias"] += torch.tensor([0.0, 5.0])
    module, signature = published(other)
    # Of other weights, so that its scores show that it is used.
    sha256 = weights_sha256(checkpoint_of("classifier").model_state)
    write_bytes(fastest_form(settings, sha256), onnx_bytes(to_program(module, signature), signature))
    expected = run_module(module)(own[:, None].astype(np.float32))
    np.testing.assert_allclose(classifier.submit(own).result(60).scores, expected, atol=5e-6)
