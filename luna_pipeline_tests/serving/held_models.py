"""The small models, of which the segmenter waits while the file that LUNA_TEST_HOLD names exists."""

import os
import time
from pathlib import Path

import torch

from luna_pipeline_tests import diagnosis_models

_forward = diagnosis_models.BrightSegmenter.forward


def _held_forward(self: diagnosis_models.BrightSegmenter, volumes_hu: torch.Tensor) -> torch.Tensor:
    while Path(os.environ["LUNA_TEST_HOLD"]).exists():
        time.sleep(0.02)
    return _forward(self, volumes_hu)


diagnosis_models.BrightSegmenter.forward = _held_forward
