"""The synthetic twin of LUNA16: MetaImage files in subset folders and its tables; or DICOM folders with the tables."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from luna_pipeline.core.phantom.dicom import write_dicom
from luna_pipeline.core.phantom.form import PhantomForm
from luna_pipeline.core.phantom.marker import SYNTHETIC
from luna_pipeline.core.phantom.series import PhantomSeries
from luna_pipeline.core.phantom.tables import tables_of


class Luna16Form(PhantomForm):
    """``subset<k>/<uid>.mhd`` and ``.raw``."""

    patterns = ("subset[0-9]*", *tables_of({}))

    def write_series(self, series: PhantomSeries) -> None:
        """Write header and voxels into the subset's folder."""
        folder = self.out / f"subset{subset_of(series.config.number, self.num_subsets)}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{series.config.series_instance_uid}.mhd"
        sitk.WriteImage(image_of(series), str(path), useCompression=False)

    def tables(self) -> Mapping[str, bytes]:
        """Return LUNA16's tables."""
        return tables_of(self.findings)


class DicomForm(Luna16Form):
    """A DICOM folder a series below a folder a patient, with LUNA16's tables; folds follow the patients."""

    patterns = ("PHANTOM-[0-9]*", *tables_of({}))

    def write_series(self, series: PhantomSeries) -> None:
        """Write one file a slice."""
        write_dicom(self.out / series.config.patient_id / series.config.series_instance_uid, series)


def image_of(series: PhantomSeries) -> sitk.Image:
    """Return a series as an image of ITK, int16 HU."""
    image = sitk.GetImageFromArray(series.hounsfield)
    image.SetSpacing(series.grid.spacing_mm)
    image.SetOrigin(series.grid.origin_xyz)
    image.SetDirection(series.grid.direction)
    image.SetMetaData(SYNTHETIC, "YES")
    return image


def subset_of(number: int, num_subsets: int) -> int:
    """Return the subset of a series: each round over the subsets has another order.

    Otherwise every property that recurs regularly (flipped axes, no nodules) could fall into one subset.
    """
    turn, place = divmod(number, num_subsets)
    return int(np.random.default_rng(turn).permutation(num_subsets)[place])
