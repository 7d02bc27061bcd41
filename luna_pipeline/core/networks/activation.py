"""Maps of what a classifier's score depends on, for a look inside a trained network."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def activation_map(network: nn.Module, layer: nn.Module, chunks_hu: torch.Tensor) -> NDArray[np.float32]:
    """Return where a layer's features raise the score of class 1.

    Each channel counts by the mean gradient of the score with regard to it. A map shows what the network uses, and not
    that it is right to use it; deep layers have few voxels, so their maps are coarse.

    Args:
        network: A classifier, HU to logits (N, 2). It is set to evaluation mode.
        layer: A part of it that returns features (N, C, D, H, W), such as ``network.luna_blocks[1]``.
        chunks_hu: Cutouts in HU, float32 (N, 1, I, R, C).

    Returns:
        Float32 (N, I, R, C), interpolated to the cutouts' voxels; the highest value of each cutout is 1, or all values
        are 0 where no feature raises the score.

    Raises:
        ValueError: If the layer is no part of the network that returns features of volumes.

    Source:
        Selvaraju et al.: Grad-CAM, 2017, arXiv:1610.02391.
    """
    network.eval()
    seen: list[torch.Tensor] = []

    def keep(_layer: nn.Module, _inputs: object, features: torch.Tensor) -> torch.Tensor:
        seen.append(features)
        # The next layer may work in place.
        return features.clone() if isinstance(features, torch.Tensor) else features

    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = network(chunks_hu.requires_grad_())
    finally:
        hook.remove()
    if len(seen) != 1 or not isinstance(seen[0], torch.Tensor) or seen[0].ndim != 5:
        shapes = [tuple(getattr(features, "shape", ())) for features in seen]
        msg = f"A layer must return features (N, C, D, H, W) once, got {shapes} ({type(layer).__name__})."
        raise ValueError(f"{msg} Choose a convolution or a block of this network.")
    [gradients] = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), seen)
    weighted = torch.relu((gradients.mean(dim=(2, 3, 4), keepdim=True) * seen[0]).sum(dim=1, keepdim=True))
    maps = nn.functional.interpolate(weighted, size=chunks_hu.shape[2:], mode="trilinear", align_corners=False)[:, 0]
    highest = maps.amax(dim=(1, 2, 3), keepdim=True)
    return (maps / torch.where(highest > 0, highest, 1.0)).detach().cpu().numpy()
