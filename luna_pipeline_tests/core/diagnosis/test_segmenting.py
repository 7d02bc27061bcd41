"""Whole-CT inference gives what the network itself gives, whatever the box, the batches and the strides."""

import numpy as np
import pytest
import torch
from torch import nn

from luna_pipeline.core.diagnosis import batches
from luna_pipeline.core.diagnosis.recipes import DiagnosisRecipe
from luna_pipeline.core.diagnosis.segmenting import segment
from luna_pipeline.core.diagnosis.windows import blend_weights, window_starts
from luna_pipeline.core.models.finite import NonFiniteError
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network

RECIPE = DiagnosisRecipe()


def make_hounsfield(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-400, 500, size=shape).clip(-2000, 3000).astype(np.int16)


def whole(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, size) for size in shape)


@pytest.fixture(scope="module")
def slice_network() -> nn.Module:
    """The book's U-Net with norms of non-trivial statistics, whose scores are neither 0 nor 1."""
    torch.manual_seed(0)
    network = build_network(
        NetworkConfig(name="book_unet", n_blocks=3, conv_channels=4, chunk_shape_irc=(7, 16, 16))
    ).train()
    with torch.no_grad():
        for norm in (layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)):
            norm.weight.uniform_(-1.5, 1.5)
            norm.bias.normal_()
        for _ in range(3):
            network(torch.from_numpy(make_hounsfield(4, 7, 32, 32)).float())
        network.unet.last.weight.mul_(20)
    return network.eval()


@pytest.fixture(scope="module")
def volume_network() -> nn.Module:
    torch.manual_seed(0)
    config = NetworkConfig(name="unet3d", n_blocks=3, conv_channels=4, chunk_shape_irc=(8, 16, 16))
    network = build_network(config).train()
    with torch.no_grad():
        network(torch.from_numpy(make_hounsfield(4, 1, 8, 16, 16)).float())
    return network.eval()


def plain_slices(network: nn.Module, hounsfield: np.ndarray) -> np.ndarray:
    """Whole slices one by one, with repeated rows and columns up to a multiple of 4."""
    num_slices, *size = hounsfield.shape
    padded = np.pad(hounsfield, [(3, 3), *[(0, -length % 4) for length in size]], mode="edge").astype(np.float32)
    with torch.inference_mode():
        scores = [network(torch.from_numpy(padded[None, at : at + 7])).sigmoid()[0, 0] for at in range(num_slices)]
    return np.stack([each.numpy() for each in scores])[:, : size[0], : size[1]]


@pytest.mark.parametrize("shape", [(9, 40, 44), (2, 41, 39), (1, 16, 16)])
def test_a_slice_network_gives_what_it_gives_slice_by_slice(slice_network, shape):
    hounsfield = make_hounsfield(*shape)
    scores = segment(slice_network, hounsfield, whole(shape), RECIPE)
    assert scores.dtype == np.float32
    assert np.ptp(scores) > 0.05
    np.testing.assert_allclose(scores, plain_slices(slice_network, hounsfield), atol=1e-5)


@pytest.mark.parametrize("box", [np.s_[2:5, 60:70, 51:88], np.s_[0:9, 0:33, 100:150], np.s_[8:9, 149:150, 3:4]])
def test_a_score_does_not_depend_on_the_box(slice_network, box):
    hounsfield = make_hounsfield(9, 150, 150)
    scores = segment(slice_network, hounsfield, box, RECIPE)
    np.testing.assert_allclose(scores, plain_slices(slice_network, hounsfield)[box], atol=1e-5)


def test_a_pixel_affects_no_logit_beyond_the_stated_reach(slice_network):
    slices = torch.from_numpy(make_hounsfield(1, 7, 128, 128)).float().requires_grad_(True)
    for row in range(60, 64):
        (gradient,) = torch.autograd.grad(slice_network(slices)[0, 0, row, 61], slices)
        seen = gradient[0].abs().amax(dim=(0, 2)).nonzero()[:, 0]
        assert max(row - int(seen.min()), int(seen.max()) - row) <= slice_network.reach_pixels


def test_searched_voxels_have_their_scores_and_slices_without_one_have_none(slice_network):
    hounsfield = make_hounsfield(9, 120, 120)
    searched = np.zeros((7, 110, 100), dtype=bool)
    searched[2, 50:60, 40] = searched[4, 3, 90] = True
    box = np.s_[1:8, 5:115, 10:110]
    scores = segment(slice_network, hounsfield, box, RECIPE, searched=searched)
    expected = plain_slices(slice_network, hounsfield)[box]
    np.testing.assert_allclose(scores[searched], expected[searched], atol=1e-5)
    assert not scores[[0, 1, 3, 5, 6]].any()
    assert not segment(slice_network, hounsfield, box, RECIPE, searched=np.zeros_like(searched)).any()


@pytest.mark.parametrize("name", ["slice_network", "volume_network"])
def test_a_flipped_and_permuted_view_gives_the_same_as_its_copy(name, request):
    view = make_hounsfield(20, 24, 12).transpose(2, 0, 1)[::-1, :, ::-1]
    network = request.getfixturevalue(name)
    of_view, of_copy = (segment(network, each, whole(view.shape), RECIPE) for each in (view, view.copy()))
    np.testing.assert_array_equal(of_view, of_copy)


@pytest.mark.parametrize(("shape", "overlap"), [((20, 40, 44), 0.25), ((9, 16, 17), 0.5), ((5, 12, 40), 0.0)])
def test_a_volume_network_gives_what_monais_inferer_gives(volume_network, shape, overlap):
    from monai.inferers import sliding_window_inference

    hounsfield = make_hounsfield(*shape)
    window = tuple(min(pair) for pair in zip((8, 16, 16), shape, strict=True))
    with torch.inference_mode():
        expected = sliding_window_inference(
            torch.from_numpy(hounsfield.astype(np.float32))[None, None],
            window,
            4,
            lambda windows: volume_network(windows).sigmoid(),
            overlap=overlap,
            mode="gaussian",
        )[0, 0]
    scores = segment(volume_network, hounsfield, whole(shape), RECIPE.with_changes(overlap=overlap))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert scores.std() > 1e-5


def test_windows_without_a_searched_voxel_are_left_out(volume_network):
    hounsfield, searched = make_hounsfield(20, 40, 44), np.zeros((20, 40, 44), dtype=bool)
    searched[10:13, 20, 21] = True
    scores, everywhere = (
        segment(volume_network, hounsfield, whole((20, 40, 44)), RECIPE, searched=mask) for mask in (searched, None)
    )
    np.testing.assert_allclose(scores[searched], everywhere[searched], atol=1e-6)
    assert not scores[:, 36:, 40:].any()


@pytest.mark.parametrize("name", ["slice_network", "volume_network"])
def test_the_budget_decides_the_batches_and_not_the_scores(name, request, monkeypatch):
    network, hounsfield = request.getfixturevalue(name), make_hounsfield(10, 40, 44)
    alone = segment(network, hounsfield, whole((10, 40, 44)), RECIPE)
    monkeypatch.setattr(batches, "_ONE_AT_A_TIME", ())
    many, few = (
        segment(network, hounsfield, whole((10, 40, 44)), RECIPE, memory_bytes=budget) for budget in (1 << 30, 1)
    )
    np.testing.assert_allclose(many, alone, atol=1e-5)
    np.testing.assert_allclose(few, alone, atol=1e-5)
    sample = torch.zeros(1, 7, 40, 44) if name == "slice_network" else torch.zeros(1, 1, 8, 16, 16)
    large, small = (batches.batch_size(network, sample, budget) for budget in (64 << 20, 1 << 20))
    assert large == pytest.approx(64 * small, rel=0.5)
    assert batches.batch_size(network, sample, 1) == 1


def test_progress_rises_to_the_end(slice_network, volume_network):
    for network in (slice_network, volume_network):
        seen = []
        segment(
            network,
            make_hounsfield(10, 16, 20),
            np.s_[1:10, 0:16, 0:20],
            RECIPE,
            on_progress=lambda done, total, seen=seen: seen.append((done, total)),
        )
        assert seen == sorted(set(seen))
        assert seen[-1] == (9, 9)


def test_the_network_stays_as_it_is(volume_network):
    before = {name: value.clone() for name, value in volume_network.state_dict().items()}
    volume_network.train()
    segment(volume_network, make_hounsfield(8, 16, 16), whole((8, 16, 16)), RECIPE)
    assert all(part.training for part in volume_network.modules())
    volume_network.eval()
    assert all(torch.equal(value, before[name]) for name, value in volume_network.state_dict().items())


def test_a_network_of_nan_is_refused(slice_network):
    import copy

    broken = copy.deepcopy(slice_network)
    nn.init.constant_(broken.unet.last.bias, float("nan"))
    with pytest.raises(NonFiniteError, match=r"must be finite, got nan for 256 of 256 voxels of a batch\. Use another"):
        segment(broken, make_hounsfield(1, 16, 16), whole((1, 16, 16)), RECIPE)


def test_a_classifier_is_refused():
    with pytest.raises(ValueError, match=r"logit for each voxel, got a classifier \(LunaNetwork\)\. Name a checkpoint"):
        segment(build_network(NetworkConfig()), make_hounsfield(4, 4, 4), whole((4, 4, 4)), RECIPE)


@pytest.mark.parametrize("box", [np.s_[0:5, 0:4, 0:4], np.s_[2:2, 0:4, 0:4], np.s_[-1:3, 0:4, 0:4]])
def test_a_box_that_is_empty_or_beyond_the_ct_is_refused(slice_network, box):
    with pytest.raises(ValueError, match=r"must hold voxels of the CT only, got \[\(.*CT of \(4, 4, 4\) voxels"):
        segment(slice_network, make_hounsfield(4, 4, 4), box, RECIPE)


def test_a_mask_of_another_box_is_refused(slice_network):
    with pytest.raises(ValueError, match=r"must be those of the box \(4, 4, 4\), got \(4, 4, 5\)"):
        segment(
            slice_network,
            make_hounsfield(4, 4, 4),
            whole((4, 4, 4)),
            RECIPE,
            searched=np.ones((4, 4, 5), dtype=bool),
        )


@pytest.mark.parametrize(
    ("size", "window", "overlap", "starts"),
    [(20, 8, 0.25, [0, 6, 12]), (8, 8, 0.5, [0]), (9, 8, 0.9, [0, 1]), (16, 8, 0.0, [0, 8])],
)
def test_windows_cover_the_axis_and_end_with_it(size, window, overlap, starts):
    assert window_starts(size, window, overlap) == starts


def test_weights_are_gaussian_with_a_floor():
    weights = blend_weights((4, 8, 8))
    assert weights.shape == (4, 8, 8)
    assert weights.max() == weights[1:3, 3:5, 3:5].max()
    assert weights[0, 0, 0] == np.float32(1e-3)
