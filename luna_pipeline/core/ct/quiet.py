"""ITK's warnings off the terminal; its errors stay exceptions."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import contextlib
from collections.abc import Iterator

import SimpleITK as sitk


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK and GDCM from writing warnings to stderr; errors are raised as ever."""
    was_on = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(was_on)
