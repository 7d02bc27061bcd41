"""The book's two networks become checkpoints and registered models like any other."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from luna_pipeline.core.datasets.splits import TrainingSplit
from luna_pipeline.core.networks.book_weights import BookWeightsError, import_book_weights
from luna_pipeline.core.networks.luna import build_network, is_segmenter
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.core.training.config import StartConfig
from luna_pipeline.core.training.recipes import demo_malignancy
from luna_pipeline.launchers import (
    LunaClassificationLauncher,
    LunaMalignantClassificationLauncher,
    RunOptions,
    import_book_model,
    predict_table,
)
from luna_pipeline.settings import Settings
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.core.networks.test_book_weights import book_file, book_state, book_unet_state


@pytest.fixture
def settings(tmp_path: Path, tracking_uri: str) -> Settings:
    return Settings(data_dir=tmp_path / "data", home=tmp_path / "home", mlflow_tracking_uri=tracking_uri)


def test_the_checkpoint_is_loaded_like_any_other_and_says_where_it_comes_from(settings, tmp_path):
    path = book_file(tmp_path, book_state())
    imported = import_book_model(path, settings=settings, register=False)

    loaded = LunaClassificationLauncher(settings.home).load("book_nodule_classifier")
    assert imported.path == settings.checkpoints_dir / "book_nodule_classifier" / "1" / "best.pt"
    assert (loaded.version, loaded.threshold, loaded.training_series) == ("1", 0.5, [])
    assert loaded.has_unknown_origin
    assert "research use only" in loaded.notes
    assert "trained on LUNA16" in loaded.notes
    assert all(torch.equal(loaded.model_state[name], value) for name, value in import_book_weights(path)[1].items())
    assert MlflowClient(settings.mlflow_tracking_uri).search_registered_models() == []


def test_a_second_import_is_the_next_build(settings, tmp_path):
    path = book_file(tmp_path, book_state())
    versions = [import_book_model(path, settings=settings, register=False).version for _ in range(2)]
    assert versions == ["1", "1+1"]


def test_a_wrong_file_takes_no_version(settings, tmp_path):
    with pytest.raises(BookWeightsError):
        import_book_model(book_file(tmp_path, {}), settings=settings)
    assert not settings.checkpoints_dir.exists()


def test_an_import_that_mlflow_refuses_takes_no_version(settings, tmp_path, monkeypatch):
    def full(self, *_arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(MlflowClient, "log_artifact", full)
    with pytest.raises(OSError, match="No space left"):
        import_book_model(book_file(tmp_path, book_state()), settings=settings)
    # The file that is locked by a claim stays: removing it would let two processes claim one version.
    assert [path.name for path in (settings.checkpoints_dir / "book_nodule_classifier").iterdir()] == [".1.claim"]


def test_the_registered_model_is_the_books_network(settings, tmp_path, monkeypatch):
    path = book_file(tmp_path, book_state())
    imported = import_book_model(path, settings=settings)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri)
    assert imported.model_uri == "models:/book_nodule_classifier/1"
    chunks_hu = np.random.default_rng(0).normal(size=(3, 1, 32, 48, 48)).astype(np.float32)
    network = build_network(imported.checkpoint.config.network)
    network.load_state_dict(imported.checkpoint.model_state)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(chunks_hu)).softmax(dim=1)[:, 1]
    np.testing.assert_allclose(mlflow.pyfunc.load_model(imported.model_uri).predict(chunks_hu), expected, atol=1e-5)
    run = MlflowClient(settings.mlflow_tracking_uri).get_run(imported.checkpoint.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["network.block"] == "biased"
    assert len(run.data.tags["source_sha256"]) == 64


def test_the_segmentation_becomes_a_checkpoint_and_a_registered_model_of_its_own(settings, tmp_path, monkeypatch):
    path = book_file(tmp_path, book_unet_state(), name="seg.best.state")
    imported = import_book_model(path, settings=settings)

    assert imported.path == settings.checkpoints_dir / "book_nodule_segmenter" / "1" / "best.pt"
    loaded = load_checkpoint(imported.path)
    assert (loaded.config.model, loaded.config.dataset) == ("nodule_segmentation", "nodule_masks")
    assert loaded.has_unknown_origin
    assert "nodule segmentation" in loaded.notes
    assert "edge rule" not in loaded.notes
    network = network_of(loaded)
    assert is_segmenter(network)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri)
    assert imported.model_uri == "models:/book_nodule_segmenter/1"
    slices_hu = np.random.default_rng(0).normal(size=(3, 7, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(slices_hu)).sigmoid()
    np.testing.assert_allclose(mlflow.pyfunc.load_model(imported.model_uri).predict(slices_hu), expected, atol=1e-5)


@pytest.mark.real
def test_from_the_scans_to_the_books_own_figures(settings, real_data, lidc_root):
    from luna_pipeline.core.candidates.folds import assign_folds
    from luna_pipeline.core.candidates.tables import build_candidates
    from luna_pipeline.core.ct.catalogue import catalogue_series
    from luna_pipeline.core.cutouts.cutting import CuttingParameters
    from luna_pipeline.core.cutouts.index import build_cutout_index
    from luna_pipeline.core.cutouts.service import CtCutoutService
    from luna_pipeline.core.cutouts.store import CutoutStore

    store, catalogue = CutoutStore(settings.cutouts_dir), catalogue_series(lidc_root, patient_key=b"test")
    candidates = build_candidates(lidc_root, catalogue).candidates
    service = CtCutoutService(
        data_root=lidc_root,
        catalogue=catalogue,
        candidates=candidates,
        store=store,
        parameters=CuttingParameters(edge_rule="shift"),
    )
    for uid in catalogue["series_instance_uid"]:
        service.cut_series(uid)
    index = build_cutout_index(candidates, assign_folds(catalogue, data_root=lidc_root), store)
    (state_file,) = (real_data / "book").glob("cls_*.best.state")
    checkpoint = import_book_model(state_file, settings=settings, register=False).checkpoint
    table = predict_table(checkpoint, index, candidates, store)

    expected = pd.read_csv(real_data / "book" / "reference" / "classifier_on_lidc.csv")
    joined = table.round({"x_mm": 6}).merge(expected.round({"coordX": 6}), left_on="x_mm", right_on="coordX")
    assert len(joined) == len(table) == len(expected) == 175
    np.testing.assert_allclose(joined["probability_x"], joined["probability_y"], atol=1e-4, rtol=0)


@pytest.mark.real
@pytest.mark.parametrize("loader", ["file", "mlflow"])
def test_the_books_classifier_is_fine_tuned_for_malignancy(settings, real_data, loader):
    (state_file,) = (real_data / "book").glob("cls_*.best.state")
    book = import_book_model(state_file, settings=settings).checkpoint
    index, store = write_examples(
        settings.cutouts_dir, num_per_series=6, shape_irc=book.config.network.chunk_shape_irc, ratings=(True, False)
    )
    launcher = LunaMalignantClassificationLauncher(
        settings.home, tracking_uri=settings.mlflow_tracking_uri, options=RunOptions(show_progress=False)
    )
    config = demo_malignancy().with_changes(num_epochs=1)
    data = {"index": index, "store": store, "split": TrainingSplit(test_fold=0, validation_fold=1)}
    tuned = launcher.load_fit(config, start=StartConfig(loader=loader, name=book.name, version="1"), **data).checkpoint

    assert tuned.config.network == book.config.network
    learned = {name for name, value in tuned.model_state.items() if not torch.equal(value, book.model_state[name])}
    assert learned == {"luna_head.head_linear.weight", "luna_head.head_linear.bias"}
    assert "published nodule classifier" in tuned.notes
    assert tuned.has_unknown_origin
    start = StartConfig(loader="file", name=tuned.name, version=tuned.version)
    further = launcher.load_fit(config, start=start, **data).checkpoint
    assert (further.config.frozen, further.version) == ("nothing", "0.0.1+1")
    assert further.has_unknown_origin
