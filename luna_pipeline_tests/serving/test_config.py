"""The service's configuration file."""

from pathlib import Path

import pytest
import yaml

from luna_pipeline.core.config.plain import flat_items
from luna_pipeline.serving.config import Peer, ServiceConfig, read_config

EXAMPLE = Path(__file__).resolve().parents[2] / "config/serving.yaml"


def test_a_file_changes_what_it_names(tmp_path):
    file = tmp_path / "serving.yaml"
    file.write_text(
        "max_queued: 4\nlimits: {max_files: 7}\nreceiver: {calling_aets: [PACS]}\n"
        "peers: [{name: pacs, kind: cstore, port: 4242}]\n"
    )
    config = read_config(file)
    assert (config.max_queued, config.limits.max_files, config.receiver.calling_aets) == (4, 7, ("PACS",))
    assert config.peers == (Peer(name="pacs", kind="cstore", port=4242),)
    assert config.limits.max_bytes == ServiceConfig().limits.max_bytes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_queud: 4", "max_queued"),
        ("[1]", "mapping"),
        ("peers: [{name: a, kind: ftp}]", "kind"),
        ("peers: [{name: a, kind: cstore}, {name: a, kind: cstore}]", "different names"),
        ("peers: [{name: a, kind: stow}]", r"must be http\(s\)://host.*, got no text \(a\)"),
        ("peers: [{name: a, kind: stow, url: pacs/dicom-web}]", "got another text"),
        ("peers: [{name: a, kind: stow, url: 'htp://pacs'}]", "got another text"),
        ("peers: [{name: a, kind: stow, url: 'http://pacs:port/x'}]", "got another text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    file = tmp_path / "serving.yaml"
    file.write_text(text)
    with pytest.raises((ValueError, TypeError), match=message):
        read_config(file)


@pytest.mark.parametrize("url", ["http://pacs", "https://pacs:8042/dicom-web", "http://[::1]:8042/", "http://10.0.0.1"])
def test_addresses_of_web_peers_are_read(url):
    assert Peer(name="a", kind="stow", url=url).url == url


def test_no_file_is_the_defaults():
    assert read_config(None) == ServiceConfig()


def test_the_example_holds_every_value_and_its_default():
    assert read_config(EXAMPLE) == ServiceConfig()
    # All but peers, whose entries an example cannot have by default.
    named = {name for name, _ in flat_items(ServiceConfig())} - {"peers"}
    assert {place for place, _ in _places(yaml.safe_load(EXAMPLE.read_text()))} - {"peers"} == named


def _places(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _places(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
