"""Every network can be written in MLflow's default format, and the file takes any number of cutouts."""

import errno
from types import SimpleNamespace

import mlflow.pytorch
import pytest
import torch

from luna_pipeline.core.models.base import Signature, TensorSpec
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline.tracking import mlflow_model
from luna_pipeline.tracking.mlflow_model import save_model

NAMES = ("luna", "resnet", "densenet", "se_resnet", "convnext", "multiscale")
SIGNATURE = Signature(
    inputs=(TensorSpec("chunks_hu", "float32", (-1, 1, 16, 16, 16)),),
    outputs=(TensorSpec("probability", "float32", (-1,)),),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_network_scores_any_number_of_cutouts_as_the_network_does(name, tmp_path):
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name=name, chunk_shape_irc=(16, 16, 16), conv_channels=2)).train()
    chunks = torch.randn(5, 1, 16, 16, 16) * 400 - 500
    network(chunks)
    save_model(network, tmp_path / "model", signature=SIGNATURE)
    saved = mlflow.pytorch.load_model(str(tmp_path / "model"))
    with torch.no_grad():
        for count in (1, 3, 5):
            expected = network.eval()(chunks[:count]).softmax(dim=1)[:, 1]
            assert torch.allclose(saved(chunks[:count]), expected, atol=1e-6)


def test_a_full_disk_is_an_os_error_before_torch_ends_the_process(tmp_path, monkeypatch):
    # Half a MiB more than nothing: torch's writer would fail, and abort the process when it is collected.
    monkeypatch.setattr(mlflow_model.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 19))
    network = build_network(NetworkConfig(chunk_shape_irc=(16, 16, 16), conv_channels=2))
    with pytest.raises(OSError, match=r"No space left on device: '.*/model'") as caught:
        save_model(network, tmp_path / "model", signature=SIGNATURE)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
