"""Exported networks: files that run without this project, equal to the original, with what a reader must know."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from luna_pipeline.core.export.speed import Speed
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.launchers import export
from luna_pipeline.launchers.diagnosis.models import weights_sha256
from luna_pipeline.launchers.evaluation.export_condition import export_condition
from luna_pipeline.launchers.export import export_model, fastest_form, onnx_equality
from luna_pipeline.settings import Settings
from luna_pipeline_tests.diagnosis_models import CHUNK_IRC, checkpoint_of, save_models, small_classifier


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    save_models(tmp_path / "home")
    return Settings.from_environment({"LUNA_HOME": str(tmp_path / "home"), "LUNA_DATA_DIR": str(tmp_path / "data")})


def scores_of(module: torch.nn.Module, chunks: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return module(torch.from_numpy(chunks)).softmax(dim=1)[:, 1].numpy()


def test_files_of_a_classifier_run_without_the_project_and_name_their_model(settings: Settings, tmp_path: Path):
    exported = export_model(settings, "nodule_classifier", tmp_path / "out")
    assert (exported.name, exported.version, exported.role) == ("nodule_classifier", "0.0.1", "classifier")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["export.json", "model.onnx", "model.pt2"]
    session = onnxruntime.InferenceSession(str(tmp_path / "out/model.onnx"))
    program = torch.export.load(tmp_path / "out/model.pt2").module()
    for count in (1, 2, 7):
        chunks = np.random.default_rng(count).integers(-1000, 1001, (count, 1, *CHUNK_IRC)).astype(np.float32)
        expected = scores_of(small_classifier(), chunks)
        (from_onnx,) = session.run(["probability"], {"chunks_hu": chunks})
        np.testing.assert_allclose(from_onnx, expected, atol=1e-6)
        np.testing.assert_allclose(program(torch.from_numpy(chunks)).detach().numpy(), expected, atol=1e-6)
    assert onnx.load(tmp_path / "out/model.onnx").opset_import[0].version == 20
    facts = json.loads((tmp_path / "out/export.json").read_text())
    assert facts["weights_sha256"] == weights_sha256(checkpoint_of("classifier").model_state)
    assert (facts["input"]["shape"], facts["output"]["shape"]) == ([-1, 1, 8, 8, 8], [-1])
    assert (facts["address"], facts["onnx_opset"]) == ("nodule_classifier 0.0.1", 20)
    assert facts["notice"].startswith("Research use only")
    assert set(facts["speed"]["inputs_per_second"]) == {"torch", "onnx", "torch_export"}


def test_a_segmenter_gives_the_score_of_each_voxel(settings: Settings, tmp_path: Path):
    exported = export_model(settings, "nodule_segmenter 0.0.1", tmp_path / "out", measures_speed=False)
    assert (exported.role, exported.speed) == ("segmenter", None)
    session = onnxruntime.InferenceSession(str(exported.files["onnx"]))
    volumes = np.full((1, 1, 32, 48, 48), -100, np.float32)
    volumes[0, 0, 3, 4, 5] = -80
    (scores,) = session.run(None, {"volumes_hu": volumes})
    # Logit 0, and 1 for 20 HU more.
    assert scores[0, 0, 0, 0, 0] == pytest.approx(0.5)
    assert scores[0, 0, 3, 4, 5] == pytest.approx(1 / (1 + np.exp(-1)))


def speed_of(gain: float) -> Speed:
    """A speed of ONNX relative to torch; ``torch.export`` is always faster."""
    return Speed(inputs_per_second={"torch": 1.0, "onnx": gain}, gains={"onnx": gain, "torch_export": 5.0})


def test_the_onnx_form_is_kept_for_the_service_only_while_it_is_faster(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = fastest_form(settings, weights_sha256(checkpoint_of("classifier").model_state))
    for gain, served in ((1.2, "onnx"), (1.19, "torch")):
        monkeypatch.setattr(export, "measure", lambda *_given, gain=gain: speed_of(gain))
        exported = export_model(settings, "nodule_classifier", tmp_path / "out")
        assert (exported.served, path.exists()) == (served, served == "onnx")
        if served == "onnx":
            assert path.read_bytes() == exported.files["onnx"].read_bytes()


def test_no_form_of_another_model_is_kept_for_the_service(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(export, "measure", lambda *_given: speed_of(2.0))
    exported = export_model(settings, "nodule_segmenter", tmp_path / "out")
    assert exported.served is None
    assert not fastest_form(settings, weights_sha256(checkpoint_of("segmenter").model_state)).exists()


def test_nothing_is_written_if_a_form_differs(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_onnx = export.run_onnx
    monkeypatch.setattr(export, "run_onnx", lambda content: lambda values: run_onnx(content)(values) + 2e-5)
    with pytest.raises(ValueError, match=r"must equal its original within 1e-05, got 2\S*e-05 \(onnx\)"):
        export_model(settings, "nodule_segmenter", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    condition = export_condition(checkpoint_of("segmenter"))
    assert (condition.name, condition.is_met, condition.is_blocking) == ("exported", False, False)
    assert "differ by at most 1e-05, and they differ by 2.0e-05 at most" in condition.finding


class Unexportable(torch.nn.Module):
    """Depends on its values: no exporter can follow."""

    head_name = "head"

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, 2)

    def forward(self, chunks_hu: torch.Tensor) -> torch.Tensor:
        means = chunks_hu.mean(dim=(1, 2, 3, 4))
        return self.head(means[:, None] * 2 if float(means.sum()) > 0 else means[:, None])


def test_a_network_that_cannot_be_exported_is_not_promoted(monkeypatch: pytest.MonkeyPatch):
    _, signature = export.published(checkpoint_of("classifier"))
    monkeypatch.setattr(export, "published", lambda _checkpoint: (Unexportable().eval(), signature))
    condition = export_condition(checkpoint_of("classifier"))
    assert not condition.is_met
    assert "must be exportable to ONNX, and the export failed with" in condition.finding


def test_a_network_that_onnx_runtime_cannot_run_is_not_promoted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export, "onnx_bytes", lambda *_given: b"no network")
    condition = export_condition(checkpoint_of("classifier"))
    assert not condition.is_met
    assert "and the export failed with InvalidProtobuf." in condition.finding


@pytest.mark.slow
@pytest.mark.parametrize("name", ["se_resnet", "convnext", "multiscale"])
def test_every_kind_of_classifier_is_equal_in_onnx(name: str):
    network = NetworkConfig(name=name, chunk_shape_irc=(16, 16, 16), conv_channels=2)
    config = TrainingConfig(name="nodule_classifier", version="0.0.1", network=network)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build_network(network).train()
        # Running statistics of HU, so that the scores are not all alike.
        module(torch.randn(8, 1, 16, 16, 16) * 400 - 500)
    equality = onnx_equality(checkpoint_of("classifier", config=config, model_state=module.state_dict()))
    assert equality.is_equal, equality
