"""Nodule blocks: their grid is SimpleITK's, for flipped and oblique CTs, and malformed ones are refused in one line."""

import zipfile

import numpy as np
import pytest

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.luna25_block import BLOCKS, block_uid, is_block
from luna_pipeline.core.ct.reading import format_of, open_ct, read_ct, series_stem
from luna_pipeline_tests.phantoms import grid_of, make_image, random_direction, random_hounsfield

NAME = "100012_1_19990102"
FLIPPED_Y_Z = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)


def official_metadata(image):
    """Origin, spacing and transform along z, y, x, computed step by step as the challenge's preprocessing does."""
    spacing = np.array(image.GetSpacing()[::-1])
    origin = np.array(image.GetOrigin()[::-1])
    steps = []
    for axis in range(3):
        index = [0.0, 0.0, 0.0]
        index[2 - axis] = 1.0
        steps.append(np.array(image.TransformContinuousIndexToPhysicalPoint(index)[::-1]) - origin)
    return {"origin": origin, "spacing": spacing, "transform": np.stack(steps) @ np.diag(1 / spacing)}


def write_block(root, voxels, metadata, *, name=NAME):
    for folder, value in (("image", voxels), ("metadata", metadata)):
        (root / BLOCKS / folder).mkdir(parents=True, exist_ok=True)
        np.save(root / BLOCKS / folder / f"{name}.npy", np.asarray(value))
    return root / BLOCKS / "image" / f"{name}.npy"


@pytest.mark.parametrize("direction", [FLIPPED_Y_Z, *(random_direction(seed) for seed in range(4))])
def test_voxels_lie_where_simpleitk_puts_them(tmp_path, direction):
    hounsfield = random_hounsfield((4, 5, 6))
    # Rounded directions are no longer orthonormal to the last digit, as in files.
    image = make_image(hounsfield, spacing_mm=(0.6, 0.7, 2.5), origin_xyz=(-11, 22, -333), direction=direction)
    path = write_block(tmp_path, hounsfield, official_metadata(image))
    ct = read_ct(path, series_instance_uid="u")
    np.testing.assert_array_equal(ct.hounsfield, hounsfield)
    for voxel in ((0, 0, 0), (3, 0, 0), (0, 4, 0), (1, 2, 5)):
        expected = image.TransformIndexToPhysicalPoint(voxel[::-1])
        np.testing.assert_allclose(ct.grid.voxel_to_world(voxel), expected, atol=1e-9)
    assert ct.grid.size_irc == grid_of(image).size_irc
    np.testing.assert_allclose(ct.grid.spacing_mm, image.GetSpacing())
    assert [path.parent.name for path in ct.files] == ["image", "metadata"]


def test_numbers_of_other_types_become_hu(tmp_path):
    image = make_image(random_hounsfield((4, 5, 6)))
    path = write_block(tmp_path, np.full((4, 5, 6), -999.6, dtype=np.float32), official_metadata(image))
    assert (read_ct(path, series_instance_uid="u").hounsfield == -1000).all()


def test_only_blocks_are_read_and_their_series_do_not_name_patients(tmp_path):
    path = tmp_path / BLOCKS / "image" / f"{NAME}.npy"
    assert format_of(path) == "luna25_block"
    assert series_stem(path) == block_uid(NAME)
    assert block_uid(NAME) != block_uid("100012_2_19990102")
    assert "100012" not in block_uid(NAME)
    assert len(block_uid(NAME)) <= 64
    assert set(block_uid(NAME)) <= set("0123456789.")
    for other in (tmp_path / "masks" / "1.npy", path.parents[1] / "metadata" / path.name, path.with_suffix(".npz")):
        assert not is_block(other)
        assert format_of(other) is None


@pytest.mark.parametrize(
    ("voxels", "change", "said"),
    [
        (np.zeros((4, 5)), {}, r"numbers \(z, y, x\)"),
        (np.zeros((4, 5, 6), dtype=np.uint8), {}, "16 bits"),
        (np.zeros((4, 5, 6), dtype=complex), {}, "another array"),
        (np.array([{}], dtype=object), {}, "numbers"),
        (np.full((4, 5, 6), np.nan), {}, "finite"),
        (None, {"spacing": np.array([0.0, 1, 1])}, "positive"),
        (None, {"spacing": np.array([250.0, 1, 1])}, "Spacing"),
        (None, {"transform": np.eye(3) * 2}, "orthonormal"),
        (None, {"transform": np.zeros((3, 3))}, "orthonormal"),
        (None, {"origin": np.array(["a", "b", "c"])}, "Metadata must be"),
    ],
)
def test_malformed_blocks_are_refused(tmp_path, voxels, change, said):
    image = make_image(random_hounsfield((4, 5, 6)))
    right = random_hounsfield((4, 5, 6))
    path = write_block(tmp_path, right if voxels is None else voxels, official_metadata(image) | change)
    with pytest.raises(UnreadableCtError, match=said) as refusal:
        read_ct(path, series_instance_uid="2.25.7")
    assert "series 2.25.7" in str(refusal.value)
    assert "100012" not in str(refusal.value)


def test_missing_and_damaged_files_are_refused(tmp_path):
    image = make_image(random_hounsfield((4, 5, 6)))
    path = write_block(tmp_path, random_hounsfield((4, 5, 6)), official_metadata(image))
    whole = path.read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.npy", whole)
    huge = whole.replace(b"(4, 5, 6), }" + b" " * 20, b"(1%s, 5, 6), }" % (b"0" * 20) + b" " * 1)
    nested = whole[:10] + b"(" * 118 + whole[128:]
    for content in (whole[:-3], b"PK\x03\x04garbage", (tmp_path / "a.zip").read_bytes(), huge, nested, b""):
        path.write_bytes(content)
        with pytest.raises(UnreadableCtError, match="numpy file"):
            open_ct(path, series_instance_uid="u").grid()
    (tmp_path / BLOCKS / "metadata" / path.name).unlink()
    with pytest.raises(UnreadableCtError, match="must have its metadata"):
        open_ct(path, series_instance_uid="u").grid()
