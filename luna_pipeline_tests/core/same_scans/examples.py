"""Small volumes of correlated noise: as different from each other as scans, with anchors at random places."""

import numpy as np
from scipy.ndimage import gaussian_filter


def noisy_tissue(seed: int, shape=(40, 56, 64), *, middle_hu: float = -300.0) -> np.ndarray:
    """Return HU around ``middle_hu`` with blobs and noise of 40 HU."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.normal(size=shape), 4)
    noise = rng.normal(scale=40, size=shape)
    return np.rint(middle_hu + 220 * blobs / blobs.std() + noise).astype(np.int16)
