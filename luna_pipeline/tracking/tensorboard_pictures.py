"""What a finished run is found to be worth, beside its training in TensorBoard: pictures."""

import io
from pathlib import Path


def add_picture(folder: Path, png: bytes, *, tag: str, step: int) -> None:
    """Write a picture into a run's folder; what is there stays.

    Args:
        folder: The run's own folder, ``<home>/tensorboard/<name>/<version>``; made where it is missing.
        png: A PNG, grey or in colours.
        tag: Under which TensorBoard shows it: ``test/errors``.
        step: Training samples that the run had seen, as in all that it wrote itself.
    """
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"))
    with SummaryWriter(str(folder)) as writer:
        writer.add_image(tag, pixels, step, dataformats="HWC")
