"""Classification of findings: the cutouts of training, batches, mirrored copies."""

import numpy as np
import pytest
import torch

from luna_pipeline.core.cutouts.cutting import CuttingParameters, cut_chunks
from luna_pipeline.core.diagnosis.classifying import BATCH_SIZE, classify
from luna_pipeline.core.networks.luna import scores_of
from luna_pipeline_tests.core.diagnosis.examples import grid
from luna_pipeline_tests.diagnosis_models import CHUNK_IRC, small_classifier
from luna_pipeline_tests.phantoms import random_hounsfield

GRID = grid(size_irc=(20, 24, 28))
HOUNSFIELD = random_hounsfield(GRID.size_irc)
VOXELS = np.random.default_rng(0).integers(0, GRID.size_irc, size=(BATCH_SIZE + 3, 3))
CENTERS = GRID.voxel_to_world(VOXELS)


def scored(hounsfield=HOUNSFIELD, network=None, edge_rule="pad", **options) -> np.ndarray:
    parameters = CuttingParameters(CHUNK_IRC, edge_rule=edge_rule)
    return classify(network or small_classifier(), hounsfield, GRID, CENTERS, parameters=parameters, **options)


@pytest.mark.parametrize("edge_rule", ["pad", "shift"])
def test_scores_are_those_of_the_cutouts_that_training_cuts(edge_rule: str):
    chunks = cut_chunks(HOUNSFIELD, VOXELS, CuttingParameters(CHUNK_IRC, edge_rule=edge_rule))
    with torch.inference_mode():
        expected = scores_of(small_classifier()(torch.from_numpy(chunks).float()[:, None]))
    np.testing.assert_allclose(scored(edge_rule=edge_rule), expected.numpy(), atol=1e-5)
    assert np.ptp(expected.numpy()) > 0.01


def test_mirrored_copies_average_the_logits_and_eight_make_the_score_symmetric():
    one, two, eight = (scored(num_flips=count) for count in (1, 2, 8))
    assert np.abs(one - two).max() > 1e-3
    chunks = torch.from_numpy(cut_chunks(HOUNSFIELD, VOXELS, CuttingParameters(CHUNK_IRC))).float()[:, None]
    with torch.inference_mode():
        network = small_classifier()
        expected = scores_of((network(chunks) + network(chunks.flip(-1))) / 2)
    np.testing.assert_allclose(two, expected.numpy(), atol=1e-5)

    class Flipped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = small_classifier()

        def forward(self, chunks_hu):
            return self.network(chunks_hu.flip((-3, -1)))

    np.testing.assert_allclose(eight, scored(network=Flipped(), num_flips=8), atol=1e-5)


def test_only_findings_from_a_score_on_are_scored_in_a_mirror():
    one, eight = (scored(num_flips=count) for count in (1, 8))
    limit = float(np.median(one))
    mixed = scored(num_flips=8, mirrored_from=limit)
    np.testing.assert_allclose(mixed, np.where(one >= limit, eight, one), atol=1e-6)
    assert np.abs(mixed - one).max() > 1e-3
    np.testing.assert_array_equal(scored(num_flips=8, mirrored_from=1.0), one)


def test_the_network_is_unchanged_and_the_progress_reaches_the_end():
    network, seen = small_classifier(), []
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scored(network=network, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(BATCH_SIZE, len(CENTERS)), (len(CENTERS), len(CENTERS))]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_view_with_flipped_axes_is_cut_alike_and_no_finding_needs_no_network():
    stored = np.ascontiguousarray(HOUNSFIELD[::-1, :, ::-1])
    np.testing.assert_array_equal(scored(stored[::-1, :, ::-1]), scored())
    empty = classify(small_classifier(), HOUNSFIELD, GRID, np.empty((0, 3)), parameters=CuttingParameters(CHUNK_IRC))
    assert empty.shape == (0,)
