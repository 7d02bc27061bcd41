"""The book's U-Net: seven slices to the segmentation of the middle one."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from luna_pipeline.core.networks.book_unet import BookUnet
from luna_pipeline.core.networks.book_weights import BOOK_UNET, import_book_weights
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network, channels_last_of, context_slices_of, is_segmenter


def make_network(seed: int = 0, **sizes: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    shape = {"n_blocks": 3, "conv_channels": 2, "chunk_shape_irc": (7, 16, 16), **sizes}
    return build_network(NetworkConfig(name="book_unet", **shape))


def make_slices(count: int = 2, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.randn(count, 7, height, width, generator=torch.Generator().manual_seed(1)) * 400 - 500


def test_slices_become_a_logit_for_each_pixel_of_the_middle_one():
    network = make_network()
    assert (is_segmenter(network), context_slices_of(network)) == (True, 3)
    assert channels_last_of(network) == torch.channels_last
    assert network(make_slices()).shape == (2, 1, 16, 24)
    assert make_network(n_blocks=1)(make_slices(1, 5, 7)).shape == (1, 1, 5, 7)


def test_a_classifier_is_no_segmenter():
    network = build_network(NetworkConfig())
    assert (is_segmenter(network), context_slices_of(network)) == (False, 0)


def test_values_outside_of_1000_hu_are_clipped():
    network, slices = make_network().eval(), make_slices()
    assert torch.equal(network(slices * 10), network((slices * 10).clamp(-1000, 1000)))
    assert not torch.equal(network(slices), network(slices.clamp(-999, 999)))


def test_every_weight_gets_a_finite_gradient():
    network = make_network().train()
    network(make_slices()).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_each_neighbouring_slice_matters():
    network, slices = make_network().eval(), make_slices(1)
    whole = network(slices)
    for position in range(7):
        changed = slices.clone()
        changed[:, position] += 100
        assert not torch.equal(network(changed), whole)


def test_the_smallest_crop_stated_is_large_enough():
    size = NetworkConfig(name="book_unet", n_blocks=4, chunk_shape_irc=(8, 8, 8)).smallest_size
    assert size == 8
    assert make_network(n_blocks=4, chunk_shape_irc=(8, 8, 8))(make_slices(2, size, size)).shape == (2, 1, size, size)


def test_weights_follow_from_the_seed_and_fit_strictly_into_another_network():
    first, other = make_network(), make_network(seed=1)
    assert not torch.equal(first(make_slices()), other(make_slices()))
    other.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first.eval()(make_slices()), copy.deepcopy(other).eval()(make_slices()))


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match="options of book_unet must be among: none, got 'depth'"):
        BookUnet(NetworkConfig(name="book_unet", options=(("depth", 3),)))


@pytest.mark.real
def test_a_slice_of_a_real_scan_is_segmented_as_by_the_books_code(real_data: Path, lidc_root: Path):
    from luna_pipeline.core.ct.catalogue import catalogue_series
    from luna_pipeline.core.ct.reading import read_ct

    (state_file,) = (real_data / "book").glob("seg_*.best.state")
    config, weights = import_book_weights(state_file)
    network = build_network(config).eval()
    network.load_state_dict(weights, strict=True)
    assert config == BOOK_UNET
    (row,) = (row for row in catalogue_series(lidc_root, patient_key=b"test").itertuples() if "0001" in row.path)
    hounsfield = read_ct(lidc_root / row.path, series_instance_uid=row.series_instance_uid).hounsfield
    expected = np.load(real_data / "book" / "reference" / "LIDC-IDRI-0001_segmentation.npz")
    with torch.inference_mode():
        logits = network(torch.from_numpy(hounsfield[None, 87:94].astype(np.float32)))
    scores = logits.sigmoid()[0, 0].numpy() * 255
    assert scores.max() > 250
    np.testing.assert_allclose(scores, expected[expected.files[0]][90], atol=1.0)
