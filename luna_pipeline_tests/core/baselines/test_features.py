"""Features of volumes whose measures are known analytically."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.baselines.features import (
    FEATURE_NAMES,
    FEATURES,
    cutout_features,
    features_of_index,
    spacing_of,
)
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.core.networks.made_volumes import (
    AIR_HU,
    SHAPE_IRC,
    TISSUE_HU,
    ball,
    positions_mm,
    tissue_where,
)

SPACINGS = [(1.0, 1.0, 1.0), (1.25, 0.7, 0.7), (2.0, 0.8, 0.8), (0.7, 1.4, 0.9)]
DOCUMENT = Path(__file__).resolve().parents[3] / "docs/explanation/baselines.md"


def features(chunks_hu, spacing_irc_mm) -> dict[str, float]:
    """Return the features of one cutout by name."""
    return dict(zip(FEATURE_NAMES, cutout_features(chunks_hu, spacing_irc_mm)[0].tolist(), strict=True))


@pytest.mark.parametrize("spacing_irc_mm", SPACINGS)
def test_a_ball_has_its_volume_and_diameter(spacing_irc_mm):
    found = features(ball(spacing_irc_mm, radius_mm=6), spacing_irc_mm)
    assert found["blob_volume_mm3"] == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.04)
    assert found["blob_diameter_mm"] == pytest.approx(12, rel=0.015)
    assert found["blob_long_axis_mm"] == pytest.approx(12, rel=0.04)
    assert found["blob_short_axis_mm"] == pytest.approx(12, rel=0.04)
    assert (found["blob_mean_hu"], found["blob_std_hu"]) == (TISSUE_HU, 0)


@pytest.mark.parametrize("spacing_irc_mm", SPACINGS)
def test_a_ball_is_round_whole_and_in_the_middle(spacing_irc_mm):
    found = features(ball(spacing_irc_mm, radius_mm=6), spacing_irc_mm)
    assert found["blob_elongation"] == pytest.approx(1, abs=0.05)
    assert found["blob_flatness"] == pytest.approx(1, abs=0.05)
    assert found["blob_sphericity"] > 0.95
    assert found["blob_fill"] == pytest.approx(1, abs=0.06)
    assert found["blob_offset_mm"] == pytest.approx(0, abs=1e-9)
    assert found["blob_touches_border"] == 0


@pytest.mark.parametrize("spacing_irc_mm", SPACINGS)
def test_the_profile_of_a_ball_ends_at_its_surface(spacing_irc_mm):
    found = features(ball(spacing_irc_mm, radius_mm=6), spacing_irc_mm)
    inside = [found[f"profile_{shell}_mm"] for shell in ("0_to_1.5", "1.5_to_3", "3_to_4.5", "4.5_to_6")]
    outside = [found[f"profile_{shell}_mm"] for shell in ("8_to_10", "10_to_12.5", "12.5_to_15")]
    assert inside == [TISSUE_HU] * 4
    assert outside == [AIR_HU] * 3


@pytest.mark.parametrize("spacing_irc_mm", SPACINGS)
def test_the_histogram_of_a_ball_is_its_share_of_the_volume_looked_at(spacing_irc_mm):
    found = features(ball(spacing_irc_mm, radius_mm=6), spacing_irc_mm)
    assert found["hu_share_0_to_100"] == pytest.approx(6**3 / 10**3, abs=0.01)
    assert found["hu_share_-850_to_-700"] == pytest.approx(1 - 6**3 / 10**3, abs=0.01)
    assert sum(value for name, value in found.items() if name.startswith("hu_share")) == pytest.approx(1)


def test_the_bins_of_the_histogram_include_their_lower_end_and_the_outer_ones_are_open():
    chunks = np.full((4, 9, 9, 9), -950, dtype=np.int16)
    chunks[1], chunks[2], chunks[3] = -951, 300, 3000
    found = pd.DataFrame(cutout_features(chunks, (1.0, 1.0, 1.0)), columns=list(FEATURE_NAMES))
    assert found["hu_share_-950_to_-850"].tolist() == [1, 0, 0, 0]
    assert found["hu_share_below_-950"].tolist() == [0, 1, 0, 0]
    assert found["hu_share_from_300"].tolist() == [0, 0, 1, 1]


def test_a_tube_is_longer_and_a_plate_flatter_than_a_ball():
    index_mm, row_mm, col_mm = positions_mm((1.0, 1.0, 1.0))
    tube = features(tissue_where((row_mm**2 + col_mm**2 <= 9) & (abs(index_mm) <= 12)), (1.0, 1.0, 1.0))
    plate = features(tissue_where((abs(index_mm) <= 1) & (row_mm**2 + col_mm**2 <= 100)), (1.0, 1.0, 1.0))
    # A solid cylinder of radius 3 and length 25: variances 25²/12 and 3²/4.
    assert tube["blob_elongation"] == pytest.approx(np.sqrt(25**2 / 12 / (3**2 / 4)), rel=0.05)
    assert tube["blob_flatness"] == pytest.approx(1)
    assert plate["blob_elongation"] == pytest.approx(1)
    assert plate["blob_flatness"] == pytest.approx(np.sqrt(10**2 / 4 / (3**2 / 12)), rel=0.05)
    assert tube["blob_sphericity"] < 0.6
    assert tube["least_curvature_3_mm"] == pytest.approx(0, abs=1)
    assert tube["log_3_mm"] > 200


@pytest.mark.parametrize("spacing_irc_mm", SPACINGS)
def test_a_ball_beside_the_middle_keeps_its_size_and_shows_its_offset(spacing_irc_mm):
    step_mm = 3 * spacing_irc_mm[1]
    middle = features(ball(spacing_irc_mm, radius_mm=5), spacing_irc_mm)
    beside = features(ball(spacing_irc_mm, radius_mm=5, center_mm=(0, step_mm, 0)), spacing_irc_mm)
    for name in ("blob_volume_mm3", "blob_long_axis_mm", "blob_sphericity", "blob_elongation"):
        assert beside[name] == pytest.approx(middle[name])
    assert beside["blob_offset_mm"] == pytest.approx(step_mm)
    for name in ("log_3_mm", "least_curvature_3_mm", "gradient_convergence", "profile_3_to_4.5_mm"):
        assert beside[name] < middle[name]


def test_the_nearest_tissue_within_three_mm_is_taken_and_none_beyond():
    def speck(offset_mm):
        found = tissue_where(
            abs(positions_mm((1.0, 1.0, 1.0)) - np.reshape((0, offset_mm, 0), (3, 1, 1, 1))).max(0) < 1
        )
        return features(found, (1.0, 1.0, 1.0))

    assert speck(2)["blob_volume_mm3"] == 1
    assert speck(2)["blob_diameter_mm"] == pytest.approx((6 / np.pi) ** (1 / 3))
    assert speck(3)["blob_volume_mm3"] == 0


def test_tissue_that_goes_on_touches_the_border():
    assert features(ball((1.0, 1.0, 1.0), radius_mm=16), (1.0, 1.0, 1.0))["blob_touches_border"] == 1


def test_of_air_alone_there_is_no_blob_no_curvature_and_no_slope():
    found = features(np.full((1, *SHAPE_IRC), AIR_HU, dtype=np.int16), (2.0, 0.7, 0.7))
    zero = [name for name in found if name.startswith(("log", "least", "gradient_5", "gradient_10"))]
    assert [found[name] for name in zero] == pytest.approx([0] * len(zero), abs=1e-8)
    assert found["blob_volume_mm3"] == found["blob_diameter_mm"] == found["blob_touches_border"] == 0
    assert np.isnan([found["gradient_convergence"], found["blob_elongation"], found["blob_mean_hu"]]).all()


@pytest.mark.parametrize("scale_mm", [1.5, 3, 5])
@pytest.mark.parametrize("spacing_irc_mm", SPACINGS)
def test_curvatures_of_a_parabola_are_exact_whatever_the_spacing(spacing_irc_mm, scale_mm):
    # Integer HU at every voxel: 2, 1 and 3 per voxel², so the second derivatives are 4, 2 and 6 over spacing².
    offsets = positions_mm((1, 1, 1))
    hu = (2 * offsets[0] ** 2 + offsets[1] ** 2 + 3 * offsets[2] ** 2).astype(np.int16)
    second = np.array([4, 2, 6]) / np.square(spacing_irc_mm)
    found = features(hu[None], spacing_irc_mm)
    assert found[f"log_{scale_mm}_mm"] == pytest.approx(-(scale_mm**2) * second.sum())
    assert found[f"least_curvature_{scale_mm}_mm"] == pytest.approx(-(scale_mm**2) * second.max())


@pytest.mark.parametrize("spacing_irc_mm", SPACINGS[:3])
def test_the_laplacian_of_a_gaussian_blob_is_that_of_the_formula(spacing_irc_mm):
    width_mm, scale_mm = 3.0, 3.0
    hu = 1000 * np.exp(-(positions_mm(spacing_irc_mm) ** 2).sum(0) / (2 * width_mm**2))
    found = features(np.rint(hu).astype(np.int16)[None], spacing_irc_mm)
    widened = width_mm**2 + scale_mm**2
    expected = 3 * scale_mm**2 / widened * 1000 * (width_mm**2 / widened) ** 1.5
    assert found["log_3_mm"] == pytest.approx(expected, rel=0.01)
    assert found["least_curvature_3_mm"] == pytest.approx(expected / 3, rel=0.02)


def test_slopes_are_in_hu_a_mm_and_point_nowhere_on_a_ramp():
    spacing_irc_mm = (2.0, 0.5, 0.5)
    ramp = (20 * positions_mm(spacing_irc_mm)[1]).astype(np.int16)
    found = features(ramp[None], spacing_irc_mm)
    assert (found["gradient_5_mm"], found["gradient_10_mm"]) == (20, 20)
    assert found["gradient_convergence"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("spacing_irc_mm", SPACINGS)
def test_all_slopes_of_a_cone_point_to_the_middle(spacing_irc_mm):
    cone = np.rint(-40 * np.linalg.norm(positions_mm(spacing_irc_mm), axis=0)).astype(np.int16)
    found = features(cone[None], spacing_irc_mm)
    assert found["gradient_convergence"] == pytest.approx(1, abs=0.02)
    assert found["gradient_10_mm"] == pytest.approx(40, rel=0.03)


@pytest.mark.seed_defect(29)
def test_the_same_body_has_the_same_features_in_cts_of_other_spacing():
    fine = features(ball((1.0, 0.7, 0.7), radius_mm=7), (1.0, 0.7, 0.7))
    coarse = features(ball((2.0, 0.9, 0.9), radius_mm=7), (2.0, 0.9, 0.9))
    for name in ("blob_diameter_mm", "blob_long_axis_mm", "profile_3_to_4.5_mm", "log_5_mm", "hu_share_0_to_100"):
        assert coarse[name] == pytest.approx(fine[name], rel=0.05)


def test_what_a_small_cutout_cannot_tell_is_nan():
    found = features(np.zeros((1, 1, 9, 9), dtype=np.int16), (2.0, 0.7, 0.7))
    assert found["profile_0_to_1.5_mm"] == 0
    assert np.isnan([found["profile_4.5_to_6_mm"], found["log_3_mm"], found["gradient_5_mm"]]).all()


def test_a_cutouts_features_do_not_depend_on_the_others_but_for_rounding():
    chunks = np.random.default_rng(0).integers(-1000, 400, (21, *SHAPE_IRC)).astype(np.int16)
    together = cutout_features(chunks, (1.25, 0.7, 0.7))
    alone = np.concatenate([cutout_features(chunk[None], (1.25, 0.7, 0.7)) for chunk in chunks])
    # BLAS and SIMD sums may round by the number of cutouts: on some processors 6e-14 of values up to 1,000.
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        (np.zeros((1, 9, 9, 9), dtype=np.float32), TypeError, "must be int16 HU, got float32"),
        (np.zeros((1, 1, 9, 9, 9), dtype=np.int16), ValueError, "must have the axes N, I, R, C"),
    ],
)
def test_other_cutouts_are_refused(chunks, error, message):
    with pytest.raises(error, match=message):
        cutout_features(chunks, (1.0, 1.0, 1.0))


def test_a_spacing_of_zero_is_refused():
    with pytest.raises(ValueError, match="three positive numbers each"):
        cutout_features(np.zeros((1, 9, 9, 9), dtype=np.int16), (1.0, 0.0, 1.0))


@pytest.fixture
def examples(tmp_path):
    index, store = write_examples(tmp_path / "cutouts", shape_irc=(10, 12, 14))
    return index.sample(frac=1.0, random_state=0), store


def test_features_of_an_index_are_those_of_its_cutouts_in_its_order(examples):
    index, store = examples
    told = []
    table = features_of_index(index, store, on_progress=lambda done, total: told.append((done, total)))
    last = index.iloc[-1]
    chunk = store.read(last["series_instance_uid"]).ct_chunks[last["row"]]
    np.testing.assert_allclose(table.iloc[-1], cutout_features(chunk[None], (1.0, 1.0, 1.0))[0], rtol=1e-9, atol=1e-9)
    assert table.index.tolist() == index["candidate_id"].tolist()
    assert told == [(6, 24), (12, 24), (18, 24), (24, 24)]


def test_features_of_a_file_that_is_not_the_indexs_are_refused(examples):
    index, store = examples
    with pytest.raises(ValueError, match="must hold the candidates of the index, got others"):
        features_of_index(index.assign(candidate_id=index["candidate_id"] + 1), store)


def test_the_spacing_of_cutouts_is_that_they_were_resampled_to(examples):
    _, store = examples
    cutouts = store.read("1.10")
    header = {**cutouts.header, "spacing_mm": [0.7, 0.8, 2.5]}
    assert spacing_of(replace(cutouts, header=header)) == (2.5, 0.8, 0.7)
    resampled = {**header, "resampling": {"spacing_mm": [0.9, 1.0, 1.5], "interpolation": "trilinear"}}
    assert spacing_of(replace(cutouts, header=resampled)) == (1.5, 1.0, 0.9)


def test_features_of_a_series_go_by_its_own_spacing(examples):
    index, store = examples
    _respace(store, "1.11", [0.5, 0.5, 2.0])
    volumes = features_of_index(index, store)["blob_volume_mm3"].groupby(index["series_instance_uid"].to_numpy()).max()
    # The same voxels have half the volume.
    assert volumes["1.11"] == pytest.approx(volumes["1.10"] / 2, rel=0.2)


def _respace(store: CutoutStore, uid: str, spacing_xyz_mm: list[float]) -> None:
    cutouts = store.read(uid)
    store.write(uid, replace(cutouts, header={**cutouts.header, "spacing_mm": spacing_xyz_mm}))


def test_every_feature_is_explained_in_the_documentation():
    text = DOCUMENT.read_text()
    assert [name for name in FEATURES if f"`{name}`" not in text] == []
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES))
