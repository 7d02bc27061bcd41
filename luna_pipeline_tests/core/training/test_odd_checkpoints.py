"""Files that are no checkpoint, or one with impossible entries: one line each, no memory, no waiting."""

import math
import os
import random
import socket
import struct
import zipfile

import pytest
import torch

from luna_pipeline.core.training.checkpoints import CheckpointError, CheckpointStore, load_checkpoint
from luna_pipeline_tests.core.training.test_checkpoints import make_checkpoint, rewrite, save


def refusal(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def read(path):
    """Return the checkpoint, or None for one that is refused in one line."""
    refused, loaded = [], None
    try:
        loaded = load_checkpoint(path)
    except CheckpointError as error:
        refused.append(str(error))
    assert not [text for text in refused if "\n" in text or str(path) not in text]
    return loaded


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("threshold", NAN, "threshold must be in [0, 1], got nan"),
        ("threshold", "0.5", "threshold must be a number in [0, 1], got '0.5'"),
        ("threshold", True, "threshold must be a number in [0, 1], got True"),
        ("threshold_f1", INF, "threshold_f1 must be in [0, 1], got inf"),
        ("threshold_sensitivity", -0.25, "threshold_sensitivity must be in [0, 1], got -0.25"),
        ("threshold_sensitivity", None, "threshold_sensitivity must be a number"),
        ("temperature", NAN, "temperature must be in (0, inf), got nan"),
        ("temperature", 0, "temperature must be in (0, inf), got 0"),
        ("isotonic_scores", [0.1, NAN], "isotonic_scores must be in [0, 1], got nan"),
        ("isotonic_scores", [0.1], "Knots must be pairs, got 1 and "),
        ("isotonic_probabilities", [0.5, 1.5], "isotonic_probabilities must be in [0, 1], got 1.5"),
        ("isotonic_probabilities", [0.5, 0.25], "isotonic_probabilities must not fall"),
        ("isotonic_probabilities", 5, "isotonic_probabilities must be a list of numbers, got 5"),
        ("num_validation_candidates", -1, "num_validation_candidates must be at least 0, got -1"),
    ],
)
def test_a_decision_that_cannot_be_is_refused_by_its_entry(tmp_path, name, value, reason):
    path = save(tmp_path / "best.pt")
    rewrite(path, lambda content: content["decision"].update({name: value}))
    assert reason in refusal(path)


@pytest.mark.parametrize("threshold", [NAN, 2.0, "a", None])
def test_a_threshold_of_format_2_that_cannot_be_is_refused(tmp_path, threshold):
    def change(content):
        del content["decision"], content["has_unknown_origin"], content["training_seconds"]
        content |= {"format_version": 2, "threshold": threshold}

    path = save(tmp_path / "best.pt")
    rewrite(path, change)
    assert "threshold must be" in refusal(path)


ODD = {
    "a number": -1,
    "nan": NAN,
    "a text": "odd",
    "a list": [[]],
    "a dictionary": {1: "a"},
    "none": None,
    "a tensor": torch.tensor(0.5),
    "a view of one number": torch.zeros(1).expand(10**9),
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_entries_of_another_type_are_refused_by_name(tmp_path, value):
    path = save(tmp_path / "best.pt")
    content = torch.load(path, weights_only=True)
    accepted = set()
    for name in content:
        torch.save({**content, name: value}, path)
        if read(path) is not None:
            accepted.add(name)
    # What such an entry may be.
    allowed = {"nan": {"best_score", "training_seconds"}, "none": {"mlflow_run_id"}}
    allowed["a text"] = {"name", "version", "notes", "data_fingerprint", "mlflow_run_id"}
    allowed["a dictionary"] = {"optimizer_state", "scheduler_state"}
    assert accepted <= next(allowed.get(name, set()) for name, odd in ODD.items() if odd is value)


def test_lists_that_refer_to_one_list_are_not_unfolded(tmp_path):
    laughs = ["ha"]
    for _ in range(40):
        laughs = [laughs] * 9
    deep: list = []
    for _ in range(300):
        deep = [deep]
    for value in (laughs, deep):
        path = save(tmp_path / "best.pt")
        rewrite(path, lambda content, value=value: content["optimizer_state"].update(more=value))
        assert "values in 50 levels, got more" in refusal(path)


def test_weights_that_are_views_of_less_than_they_show_are_refused(tmp_path):
    path = save(tmp_path / "best.pt", model_state={"weight": torch.zeros(1).expand(10**12)})
    assert "at most the file's bytes, got (1000000000000,)" in refusal(path)


def sparse(path, begin, num_bytes):
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(num_bytes)


def test_a_sparse_file_is_refused_by_its_length_or_end_without_being_read(tmp_path, monkeypatch):
    path = save(tmp_path / "best.pt")
    content = path.read_bytes()
    sparse(path, b"", 4 << 30)
    assert "a file of another kind" in refusal(path)
    sparse(path, content, 4 << 30)
    assert "at most 2 GiB, got 4294967296 bytes" in refusal(path)
    assert "LUNA_MAX_CHECKPOINT_GIB" in refusal(path)
    sparse(path, content, 1 << 30)
    assert "no bytes of directory at the end" in refusal(path)
    # A sparse part before the directory, which its records allow for.
    with path.open("r+b") as file:
        file.seek((1 << 30) - len(content))
        file.write(content)
    assert "in a file of 1073741824 bytes" in refusal(path)
    monkeypatch.setenv("LUNA_MAX_CHECKPOINT_GIB", "0.5")
    assert "at most 0.5 GiB" in refusal(path)
    monkeypatch.setenv("LUNA_MAX_CHECKPOINT_GIB", "much")
    with pytest.raises(ValueError, match="must be a positive number of GiB, got 'much'"):
        load_checkpoint(path)


def zipped(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_zip_bomb_is_refused_by_what_it_announces(tmp_path):
    path = tmp_path / "best.pt"
    zipped(path, {"best/data.pkl": bytes(50_000_000)})
    assert "got a packed member 'best/data.pkl'" in refusal(path)
    zipped(path, {"best/data.pkl": bytes(5_000)}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<2I", 3 << 30, 3 << 30)
    path.write_bytes(content)
    assert f"members of {3 << 30} bytes in a file of {len(content)} bytes" in refusal(path)


def test_a_directory_of_absurd_length_is_not_read(tmp_path):
    path = save(tmp_path / "best.pt")
    content = bytearray(path.read_bytes())
    content[-10:-6] = content[-98 + 40 : -98 + 44] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(content)
    assert "bytes of directory at the end" in refusal(path)


def test_any_damaged_checkpoint_is_one_line_or_the_same(tmp_path):
    path = save(tmp_path / "best.pt")
    content, randomness = path.read_bytes(), random.Random(17)
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(randomness.choice((1, 1, 8))):
            changed[randomness.randrange(len(changed))] ^= 1 << randomness.randrange(8)
        path.write_bytes(changed)
        loaded = read(path)
        assert loaded is None or loaded.decision == make_checkpoint().decision


def test_any_pickle_in_a_whole_file_is_one_line(tmp_path):
    path = save(tmp_path / "best.pt")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    randomness = random.Random(17)
    for _ in range(200):
        changed = bytearray(members[pickled])
        changed[randomness.randrange(len(changed))] = randomness.randrange(256)
        zipped(path, {**members, pickled: bytes(changed)}, zipfile.ZIP_STORED)
        read(path)


@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a socket", "a character device"])
def test_what_is_no_regular_file_is_not_opened(tmp_path, kind):
    path = tmp_path / "best.pt"
    if kind == "a socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    else:
        make = {"a FIFO": lambda: os.mkfifo(path), "a folder": path.mkdir}
        make.get(kind, lambda: path.symlink_to("/dev/zero"))()
    assert f"got {kind}" in refusal(path)


def test_links_that_lead_nowhere_are_one_line(tmp_path):
    (tmp_path / "loop.pt").symlink_to("loop.pt")
    (tmp_path / "gone.pt").symlink_to("gone")
    assert "got a link that leads nowhere (loop.pt)" in refusal(tmp_path / "loop.pt")
    with pytest.raises(FileNotFoundError, match=r"got no file gone\.pt"):
        load_checkpoint(tmp_path / "gone.pt")


def test_odd_entries_of_a_store_stop_neither_the_newest_nor_the_unfinished_run(tmp_path):
    store, checkpoint = CheckpointStore(tmp_path), make_checkpoint()
    for kind in ("best", "last"):
        version = {"best": "0.0.1", "last": "0.0.2"}[kind]
        store.claim("classification", version)
        save(store.path("classification", version, kind), version=version)
    folder = tmp_path / "classification"
    for name in (b"\xff", b"a\nb", b".trash", "²".encode(), b"9" * 200, b"0.0.9", b"0.1.0"):
        os.mkdir(os.path.join(os.fsencode(folder), name))
    os.mkfifo(folder / "0.0.9/best.pt")
    (folder / "0.0.9/last.pt").mkdir()
    (folder / "0.1.0/last.pt").write_bytes(b"odd")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    for odd in (b"\xff", b"a\nb", b".trash"):
        with open(os.path.join(os.fsencode(folder), odd, b"last.pt"), "wb") as file:
            file.write(b"odd")
    assert store.latest("classification") == "0.0.1"
    digest, data = checkpoint.config.digest, checkpoint.data_fingerprint
    assert store.unfinished("classification", digest, data).version == "0.0.2"
