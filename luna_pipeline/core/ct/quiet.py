"""What ITK and pydicom do besides their work, kept away: warnings, and another locale for the whole process."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import contextlib
import locale
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK and GDCM from writing warnings to stderr; errors are raised as ever.

    GDCM leaves the process in the C locale after writing a file: from then on Python would read and write text as
    ASCII. The locale of before comes back.
    """
    import SimpleITK as sitk

    was_on = sitk.ProcessObject.GetGlobalWarningDisplay()
    before = locale.setlocale(locale.LC_ALL)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(was_on)
        locale.setlocale(locale.LC_ALL, before)


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from warning of values against the standard, as scanners write them; what is needed is checked."""
    from pydicom import config

    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield
