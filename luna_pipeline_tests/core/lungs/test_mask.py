"""Lungs of phantoms, and a reason for every CT that shows none."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.lungs.mask import NoLungsError, find_lungs, tight_box
from luna_pipeline.core.phantom import series as phantom
from luna_pipeline.core.phantom.thorax import draw_thorax
from luna_pipeline_tests.phantoms import IDENTITY

SEED, SIZE_IRC = 3, (64, 160, 160)
# Padded, flipped, without nodules, oblique.
NUMBERS = {"padded": 0, "flipped": 1, "without nodules": 4, "oblique": 5}
RADIUS_MM = 48.0
GRID = VoxelGrid((60, 100, 100), (3.0, 3.0, 5.0), (-150.0, -150.0, -300.0), IDENTITY)


@pytest.fixture(scope="module", params=NUMBERS.values(), ids=NUMBERS.keys())
def series(request):
    return phantom.make_series(phantom.PhantomConfig(SEED, request.param, SIZE_IRC))


@pytest.fixture(scope="module")
def lungs(series):
    return find_lungs(series.hounsfield, series.grid)


def true_lungs(series):
    """Voxels within the surface that the phantom was painted from."""
    rng = np.random.default_rng([series.config.seed, series.config.number])
    grid = phantom._draw_grid(rng, series.config)
    thorax = draw_thorax(rng, phantom._half_lengths(grid))
    voxels = np.stack(np.meshgrid(*(np.arange(size) for size in grid.size_irc), indexing="ij"), axis=-1)
    return thorax.lung_distance(grid.voxel_to_world(voxels) - np.asarray(phantom._middle(grid))) < 0


def test_the_mask_holds_the_painted_lungs_and_little_more(series, lungs):
    truth = true_lungs(series)
    assert (truth & ~lungs.mask).sum() <= 0.012 * truth.sum()
    assert (lungs.mask & ~truth).sum() <= 0.2 * truth.sum()


def test_every_nodule_is_searched(series, lungs):
    voxels = series.grid.nearest_voxel(
        [nodule.center_xyz for nodule in series.findings.all_nodules] or np.empty((0, 3))
    )
    region = lungs.searched(5.0)
    assert all(region.mask[tuple(voxel)] for voxel in voxels)
    assert np.mean([lungs.mask[tuple(voxel)] for voxel in voxels] or [1]) > 0.8


def test_volume_and_box_are_those_of_the_mask(series, lungs):
    assert lungs.mask.shape == series.hounsfield.shape
    assert lungs.volume_ml == pytest.approx(lungs.mask.sum() * np.prod(series.grid.spacing_mm) / 1000)
    assert lungs.mask[lungs.box].sum() == lungs.mask.sum()
    for axis in range(3):
        sides = np.moveaxis(lungs.mask[lungs.box], axis, 0)
        assert sides[0].any()
        assert sides[-1].any()


def test_trachea_and_table_are_outside(series, lungs):
    view = AxialView(series.grid)
    hounsfield, mask = view.of(series.hounsfield), view.of(lungs.mask)
    # The trachea is painted with -990 HU in the middle of the uppermost slices, the lungs with -800 to -890 HU.
    gas = ndimage.gaussian_filter(hounsfield[-10:, 70:92, 68:92].astype(np.float32), 0.7) < -950
    numbers, _ = ndimage.label(gas)
    trachea = numbers == np.bincount(numbers[numbers > 0]).argmax()
    assert 100 < trachea.sum() < 2000
    assert not (mask[-10:, 70:92, 68:92] & trachea).any()
    # The table lies behind the body.
    assert not mask[:, -12:].any()
    assert lungs.notes == ()


def test_a_margin_grows_the_region_by_its_width(lungs):
    region = lungs.searched(5.0)
    assert (region.mask | ~lungs.mask).all()
    assert region.mask.sum() > 1.05 * lungs.mask.sum()
    assert region.mask[region.box].sum() == region.mask.sum()
    assert lungs.searched(0.0).mask is lungs.mask
    assert lungs.searched(20.0).mask.sum() > region.mask.sum()


@pytest.mark.parametrize("size_irc", [(32, 32, 32), (48, 64, 64), (20, 96, 160)])
def test_small_phantoms_have_lungs(size_irc):
    size = tuple(max(32, side) for side in size_irc)
    series = phantom.make_series(phantom.PhantomConfig(SEED, 1, size))
    found = find_lungs(series.hounsfield[: size_irc[0]], replace(series.grid, size_irc=size_irc))
    assert 0.1 < found.mask.mean() < 0.7


def body(hu=40, *, grid=GRID):
    """An upright elliptic cylinder of tissue in air."""
    _, rows, cols = np.indices(grid.size_irc)
    middle = (np.asarray(grid.size_irc) - 1) / 2
    is_body = ((rows - middle[1]) / 33) ** 2 + ((cols - middle[2]) / 43) ** 2 <= 1
    return np.where(is_body, hu, -1000).astype(np.int16)


def with_ball(hounsfield, center_irc, radius_mm, hu, *, grid=GRID):
    distance = (np.stack(np.indices(grid.size_irc), axis=-1) - np.asarray(center_irc)) * grid.spacing_irc
    return np.where((distance**2).sum(axis=-1) <= radius_mm**2, hu, hounsfield).astype(np.int16)


def chest():
    """A body with two balls of lung."""
    return with_ball(with_ball(body(), (30, 50, 28), RADIUS_MM, -850), (30, 50, 71), RADIUS_MM, -850)


def head():
    """A body with sinuses of pure gas."""
    return with_ball(with_ball(body(), (30, 30, 45), 22, -1000), (30, 30, 55), 22, -1000)


def abdomen():
    """A body with gas in the bowel, and stool, which has lung's density."""
    return with_ball(with_ball(body(), (30, 30, 45), 30, -1000), (20, 55, 70), 18, -600)


def test_a_body_with_two_lungs_is_found():
    found = find_lungs(chest(), GRID)
    assert found.volume_ml == pytest.approx(2 * 4 / 3 * np.pi * RADIUS_MM**3 / 1000, rel=0.03)
    assert found.notes == ("The trachea was not found: the lungs' mask may hold it.",)


def test_a_nodule_at_the_pleura_is_inside():
    nodule = with_ball(chest(), (30, 50, 15), 10, 50)
    assert find_lungs(nodule, GRID).mask[30, 50, 15]


def test_the_heart_between_the_lungs_is_outside_even_if_they_touch_before_and_behind():
    bridged = chest()
    bridged[25:35, 20:23, 25:75] = -850
    bridged[25:35, 77:80, 25:75] = -850
    assert not find_lungs(bridged, GRID).mask[30, 50, 50]


def test_gas_of_the_stomach_and_the_tables_foam_are_outside():
    scan = with_ball(chest(), (5, 35, 55), 25, -1000)
    # A hollow table with foam of lung's density, which touches no border of the image.
    scan[:, 85:98, 8:92] = 100
    scan[:, 87:96, 10:90] = -900
    found = find_lungs(scan, GRID).mask
    assert not found[5, 35, 55]
    assert not found[:, 84:].any()
    assert found[30, 50, 28]


def test_a_lung_that_the_field_of_view_cuts_is_kept():
    cut = chest()[:, :, 20:]
    found = find_lungs(cut, replace(GRID, size_irc=cut.shape))
    assert found.mask[30, 50, 3]
    assert found.mask[30, 50, 0]


def test_an_open_mouth_does_not_let_the_air_in():
    scan = chest()
    scan[50:, 48:52, 48:52] = -1000
    scan[30:50, 49:51, 49:51] = -1000
    scan[56:, :52, 48:52] = -1000
    assert find_lungs(scan, GRID).volume_ml == pytest.approx(2 * 4 / 3 * np.pi * RADIUS_MM**3 / 1000, rel=0.03)


@pytest.mark.parametrize(
    ("hounsfield", "said"),
    [
        (body(), r"no air within the body \(HU from -1000 to 40\)"),
        (np.full(GRID.size_irc, -1000, dtype=np.int16), "only air"),
        (np.full(GRID.size_irc, -2000, dtype=np.int16), "only air"),
        (np.full(GRID.size_irc, 0, dtype=np.int16), "no air within the body"),
        (np.abs(body(800)) % 1000, "no air within the body"),
        (head(), r"0\.0 ml that could be lung, .* median of -999 HU and its centre at \(0, -60, -150\)"),
        (abdomen(), r"0\.0 ml|\d+\.\d ml that could be lung"),
    ],
    ids=["water", "air", "padding", "constant", "magnetic resonance", "head", "abdomen"],
)
def test_a_ct_without_lungs_is_refused_with_what_was_found(hounsfield, said):
    with pytest.raises(NoLungsError, match=said) as raised:
        find_lungs(hounsfield.astype(np.int16), GRID)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("Diagnose a chest CT.")


@pytest.mark.parametrize("num_slices", [1, 2])
def test_single_slices_are_refused(num_slices):
    with pytest.raises(NoLungsError, match=f"3 axial slices or more, got {num_slices}"):
        find_lungs(chest()[30 : 30 + num_slices], replace(GRID, size_irc=(num_slices, 100, 100)))


@pytest.mark.parametrize("start", [25, 30])
def test_a_few_slices_of_a_chest_are_enough(start):
    found = find_lungs(chest()[start : start + 3], replace(GRID, size_irc=(3, 100, 100)))
    assert found.mask[:, 50, 28].all()


def test_the_box_of_a_single_voxel_is_that_voxel():
    single = np.zeros((3, 4, 5), dtype=np.bool_)
    single[1, 2, 3] = True
    assert tight_box(single) == (slice(1, 2), slice(2, 3), slice(3, 4))
