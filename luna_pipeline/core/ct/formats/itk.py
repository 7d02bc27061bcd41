"""Reading with ITK: formats and headers that are not read here. SimpleITK is imported only when it is needed."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError, naming_series, one_line
from luna_pipeline.core.ct.formats.reader import CtReader
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.hounsfield import check_voxel_kind, to_hounsfield
from luna_pipeline.core.ct.quiet import quiet_itk

if TYPE_CHECKING:
    import SimpleITK as sitk


def grid_of(image: "sitk.Image | sitk.ImageFileReader") -> VoxelGrid:
    """Return the grid of an ITK image, or of a header that was read.

    Raises:
        ValueError: If it is not three-dimensional, a spacing is not positive or the direction is not orthonormal.
    """
    if image.GetDimension() != 3:
        raise ValueError(f"A CT must have three dimensions, got {image.GetDimension()}. Check the CT's header.")
    num_cols, num_rows, num_slices = (int(value) for value in image.GetSize())
    x_mm, y_mm, z_mm = (float(value) for value in image.GetOrigin())
    col_mm, row_mm, index_mm = (float(value) for value in image.GetSpacing())
    direction = tuple(float(value) for value in image.GetDirection())
    return VoxelGrid((num_slices, num_rows, num_cols), (col_mm, row_mm, index_mm), (x_mm, y_mm, z_mm), direction)


class ItkReader(CtReader):
    """Reads a file of any format that ITK reads; raises ``UnreadableCtError`` where ITK cannot or it is no CT."""

    @property
    def is_packed(self) -> bool:
        """Whether the voxels' length is known only once they are unpacked: then it is checked with the voxels."""
        return False

    def check_size(self) -> None:
        """Refuse a file whose length differs from its header, which ITK reads without a warning."""

    def files(self) -> tuple[Path, ...]:
        """Return the file."""
        return (self.path,)

    def grid(self) -> VoxelGrid:
        """Read the grid from the header."""
        import SimpleITK as sitk

        if not self.is_packed:
            self.check_size()
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(self.path))
        try:
            with quiet_itk():
                reader.ReadImageInformation()
            _check_kind(reader.GetNumberOfComponents(), reader.GetPixelIDValue(), uid=self.series_instance_uid)
        except RuntimeError as error:
            raise _unreadable(self.path, self.series_instance_uid, error) from error
        with naming_series(self.series_instance_uid):
            return grid_of(reader)

    def voxels(self) -> NDArray[np.int16]:
        """Read the HU."""
        import SimpleITK as sitk

        if self.is_packed:
            self.check_size()
        try:
            with quiet_itk():
                image = sitk.ReadImage(str(self.path))
        except RuntimeError as error:
            raise _unreadable(self.path, self.series_instance_uid, error) from error
        return _hounsfield_of(image, uid=self.series_instance_uid)


def _check_kind(num_channels: int, pixel_id: int, *, uid: str) -> None:
    import SimpleITK as sitk

    is_narrow = pixel_id in {sitk.sitkUInt8, sitk.sitkInt8}
    kind = sitk.GetPixelIDValueAsString(pixel_id)
    check_voxel_kind(kind, num_channels, 1 if is_narrow else 2, series_instance_uid=uid)


def _hounsfield_of(image: "sitk.Image", *, uid: str) -> NDArray[np.int16]:
    import SimpleITK as sitk

    _check_kind(image.GetNumberOfComponentsPerPixel(), image.GetPixelIDValue(), uid=uid)
    view = sitk.GetArrayViewFromImage(image)
    values = to_hounsfield(view, series_instance_uid=uid)
    # The view's memory goes with the image.
    return values.copy() if values is view else values


def _unreadable(path: Path, uid: str, error: RuntimeError) -> UnreadableCtError:
    return UnreadableCtError(
        f"A CT must be readable by ITK, got: {one_line(error)} ({path.name}, series {uid}). Copy it again."
    )
