"""TensorBoard reads the pictures back unchanged."""

import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from luna_pipeline.core.events.messages import LogMetrics, LogParams, Mode
from luna_pipeline.tracking.tensorboard_pictures import add_picture
from luna_pipeline.tracking.tensorboard_tracking import TensorBoardHandlers

NOISE = np.random.default_rng(0).integers(0, 256, size=(20, 30, 4), dtype=np.uint8)


def png_of(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def read_back(folder) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


@pytest.mark.parametrize("pixels", [NOISE[..., 0], NOISE[..., :3], NOISE], ids=["grey", "colours", "transparent"])
def test_a_picture_comes_back_pixel_by_pixel_at_its_step(tmp_path, pixels):
    add_picture(tmp_path / "net/0.0.1", png_of(pixels), tag="test/errors", step=640)

    (event,) = read_back(tmp_path / "net/0.0.1").Images("test/errors")
    found = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    assert (event.step, event.width, event.height) == (640, 30, 20)
    assert np.array_equal(found, np.asarray(Image.fromarray(pixels).convert("RGB")))


def test_what_the_training_wrote_stays(tmp_path):
    handlers = TensorBoardHandlers(tmp_path)
    handlers.log_params(LogParams(params={"seed": 1}))
    handlers.log_metrics(LogMetrics(epoch=1, mode=Mode.TRAINING, num_samples_seen=640, values={"loss": 0.5}))
    handlers.close()
    for tag in ("test/errors", "test/froc"):
        add_picture(tmp_path, png_of(NOISE[..., 0]), tag=tag, step=640)

    tags = read_back(tmp_path).Tags()
    assert sorted(tags["images"]) == ["test/errors", "test/froc"]
    assert "configuration/text_summary" in tags["tensors"]
    assert read_back(tmp_path / "training").Tags()["scalars"] == ["epoch/loss"]
