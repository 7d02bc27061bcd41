"""The benchmark of a diagnosis: both procedures come to the same, and its figures are printed and drawn."""

import numpy as np
import pytest
import torch

from benchmarks import bench_diagnosis
from benchmarks.diagnosis_plot import draw
from benchmarks.plain_diagnosis import PlainResult, diagnose_plainly
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.reading import Ct
from luna_pipeline.core.diagnosis.diagnose import DiagnosisModel, DiagnosisModels, diagnose
from luna_pipeline.core.diagnosis.recipes import book
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline_tests.diagnosis_models import CHUNK_IRC, model_version, small_classifier

SIZE_IRC = (12, 64, 64)


@pytest.fixture(scope="module")
def ct() -> Ct:
    generator = np.random.default_rng(0)
    coarse = generator.normal(-400, 700, size=(3, 16, 16)).repeat(4, axis=0).repeat(4, axis=1).repeat(4, axis=2)
    grid = VoxelGrid(
        size_irc=SIZE_IRC,
        spacing_mm=(0.7, 0.7, 2.5),
        origin_xyz=(-20.0, -30.0, 40.0),
        direction=(1, 0, 0, 0, 1, 0, 0, 0, 1),
    )
    return Ct("1.2", coarse.clip(-1500, 2000).astype(np.int16), grid, ())


@pytest.fixture(scope="module")
def models(ct: Ct) -> DiagnosisModels:
    """A segmenter that finds about a dozen components, and a classifier with an opinion."""
    torch.manual_seed(1)
    segmenter = build_network(
        NetworkConfig(name="book_unet", n_blocks=2, conv_channels=4, chunk_shape_irc=(7, 16, 16))
    ).train()
    classifier = small_classifier()
    stacks = torch.from_numpy(ct.hounsfield[:7].astype(np.float32))[None]
    with torch.no_grad():
        for _ in range(20):
            segmenter(stacks)
        logits = segmenter.eval()(stacks)
        segmenter.unet.last.bias -= logits.quantile(0.8)
    return DiagnosisModels(
        segmenter=DiagnosisModel(network=segmenter, version=model_version("segmenter"), chunk_shape_irc=(7, 16, 16)),
        classifier=DiagnosisModel(network=classifier, version=model_version("classifier"), chunk_shape_irc=CHUNK_IRC),
    )


def test_the_way_that_is_measured_against_finds_the_same(ct, models):
    plain = diagnose_plainly(ct.hounsfield, models.segmenter.network, models.classifier.network, cutout_irc=CHUNK_IRC)
    diagnosis = diagnose(ct, models, book())
    assert len(plain.probabilities) == len(diagnosis.nodules) > 5
    assert np.ptp(plain.probabilities) > 1e-3
    found = bench_diagnosis.differences(plain, diagnosis)
    assert found["center_voxels"] < 1e-6
    assert found["probability"] < 1e-5
    assert set(plain.seconds) == {"segmentation", "grouping", "classification"}


def test_lists_of_different_length_do_not_count_as_the_same(ct, models):
    plain = PlainResult(np.zeros((1000, 3)), np.zeros(1000), {})
    assert np.isnan(bench_diagnosis.differences(plain, diagnose(ct, models, book()))["center_voxels"])


def results() -> dict[str, object]:
    seconds = {"segmentation": 18.0, "grouping": 4.0, "classification": 70.0, "total": 92.0}
    large = {"num_slices": 240, "peak_mib": 900.0, "above_mib": 500.0, "float32_mib": 240.0, "ratio_to_float32": 2.1}
    return {
        "machine": {"processor": "P", "num_cores": 2},
        "scan": "S",
        "size_irc": [133, 512, 512],
        "seconds": {"plain": seconds, "book": {**seconds, "total": 20.0}, "default": {**seconds, "total": 10.0}},
        "ratios": {"book": 4.6, "default": 9.2},
        "num_findings": {"plain": 674, "book": 674, "default": 205},
        "differences": {"center_voxels": 1e-12, "probability": 2e-6},
        "large": {"default": {**large, "seconds": {"total": 30.0}}},
        "goals": {"book_speed": True, "memory": False},
    }


def test_figures_are_printed_and_drawn(tmp_path):
    text = bench_diagnosis.text_of(results())
    assert "240 slices, default: 30.0 s from file to report" in text
    assert "2.10 x the CT as float32" in text
    assert "book_speed reached, memory MISSED" in text
    draw(results(), tmp_path / "plot.png")
    draw({**results(), "large": {}}, tmp_path / "small.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_without_real_scans_one_line_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.delenv("LUNA_TEST_DATA", raising=False)
    with pytest.raises(SystemExit, match=r"Real scans must be named, got no LUNA_TEST_DATA .*Set it and try again"):
        bench_diagnosis.main(["--out", str(tmp_path)])
