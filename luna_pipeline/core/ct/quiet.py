"""What ITK does besides its work, kept away: warnings on the terminal, and another locale for the whole process."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import contextlib
import locale
from collections.abc import Iterator

import SimpleITK as sitk


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK and GDCM from writing warnings to stderr; errors are raised as ever.

    GDCM leaves the process in the C locale after writing a file: from then on Python would read and write text as
    ASCII. The locale of before comes back.
    """
    was_on = sitk.ProcessObject.GetGlobalWarningDisplay()
    before = locale.setlocale(locale.LC_ALL)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(was_on)
        locale.setlocale(locale.LC_ALL, before)
