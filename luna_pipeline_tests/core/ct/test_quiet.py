"""ITK's side effects are suppressed."""

import locale
from pathlib import Path

from luna_pipeline.core.ct.quiet import quiet_itk
from luna_pipeline.core.phantom.dicom import write_dicom
from luna_pipeline.core.phantom.series import PhantomConfig, make_series


def test_another_locale_does_not_outlive_the_block():
    before = locale.setlocale(locale.LC_ALL)
    with quiet_itk():
        locale.setlocale(locale.LC_ALL, "C")
    assert locale.setlocale(locale.LC_ALL) == before


def test_writing_dicom_leaves_the_encoding_of_text_alone(tmp_path: Path):
    before = locale.getencoding()
    write_dicom(tmp_path / "series", make_series(PhantomConfig(0, 0, (32, 32, 32))))
    assert locale.getencoding() == before
