import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from luna_pipeline.core.config.plain import from_plain
from luna_pipeline.core.networks.config import NETWORKS, LossConfig, NetworkConfig

SMALLEST = {"luna": 16, "resnet": 8, "densenet": 16, "se_resnet": 8, "convnext": 16, "multiscale": 16}


@pytest.mark.parametrize(("name", "size"), SMALLEST.items())
def test_a_network_says_its_smallest_cutout_and_refuses_a_smaller_one(name, size):
    assert NetworkConfig(name=name, chunk_shape_irc=(size, size, size)).smallest_size == size
    with pytest.raises(ValueError, match=f"at least {size} voxels .* got \\(64, 64, {size - 1}\\)"):
        NetworkConfig(name=name, chunk_shape_irc=(64, 64, size - 1))


def test_every_network_of_the_project_states_its_smallest_cutout():
    assert set(NETWORKS.names()) >= set(SMALLEST)


def test_a_configuration_survives_json():
    config = NetworkConfig(name="convnext", options=(("blocks_per_level", 2), ("kernel_size", 3)))
    assert from_plain(NetworkConfig, json.loads(json.dumps(asdict(config))), "network") == config
    loss = LossConfig(name="focal", positive_weight=3.0, focusing=1.0)
    assert from_plain(LossConfig, json.loads(json.dumps(asdict(loss))), "loss") == loss


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "lunar"}, "network must be one of luna, resnet, .* got 'lunar'"),
        ({"block": "squeeze"}, "network.block must be one of biased, .* got 'squeeze'"),
        ({"name": "resnet", "n_blocks": 3}, "n_blocks of a resnet must be 4, got 3"),
        ({"options": (("a", 1), ("a", 2))}, "must name each option once, got \\['a', 'a'\\]"),
        ({"chunk_shape_irc": (32, 48)}, "must hold three sizes"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**changes)


@pytest.mark.parametrize("options", [{"a": 1}, (("a", None),), ("ab",), ((1, 2),), [("a", 1)]])
def test_options_are_pairs_of_a_name_and_a_plain_value(options):
    with pytest.raises(TypeError, match=r"must be pairs of a name and a plain value, got .* Write \(\("):
        NetworkConfig(options=options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "hinge"}, "loss must be one of cross_entropy, .* got 'hinge'"),
        ({"positive_weight": 0.0}, r"positive_weight must be in \(0, inf\), got 0.0"),
        ({"focusing": -1.0}, r"focusing must be in \[0, inf\), got -1.0"),
        ({"focusing": 0.5}, "focusing must be 0 or at least 1, got 0.5. Use 2"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**changes)


def test_a_configuration_is_read_without_waiting_for_torch():
    code = "import sys, luna_pipeline.core.networks.config; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
