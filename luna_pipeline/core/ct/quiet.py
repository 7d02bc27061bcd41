"""Suppression of side effects of ITK and pydicom: warnings, and a changed locale."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import contextlib
import locale
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK and GDCM from writing warnings to stderr; errors are still raised.

    GDCM leaves the process in the C locale after writing a file, in which Python reads and writes text as ASCII; the
    locale is restored.
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
    """Keep pydicom from warning of non-standard values, which scanners write; required values are checked here."""
    from pydicom import config

    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield
