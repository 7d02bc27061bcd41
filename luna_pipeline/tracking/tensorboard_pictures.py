"""Adds pictures of a run's test results to its TensorBoard folder."""

import io
from pathlib import Path


def add_picture(folder: Path, png: bytes, *, tag: str, step: int) -> None:
    """Add a picture to a run's folder.

    Args:
        folder: Folder of the run, ``<home>/tensorboard/<name>/<version>``; created where it is missing.
        png: A PNG file, grey or in colours.
        tag: Name in TensorBoard, such as ``test/errors``.
        step: Training samples seen, as in the run's other events.
    """
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"))
    with SummaryWriter(str(folder)) as writer:
        writer.add_image(tag, pixels, step, dataformats="HWC")
