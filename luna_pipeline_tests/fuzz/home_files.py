"""Malformed files of an installation: cutout files, odd entries among them, checkpoints, configurations."""

import functools
import io
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luna_pipeline.core.cutouts.aligned_npz import write_aligned_npz
from luna_pipeline.core.training.recipes import demo
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.core.training.test_checkpoints import save
from luna_pipeline_tests.fuzz.inputs import TEXTS, Malformed, damaged, uid_of
from luna_pipeline_tests.fuzz.odd_entries import KINDS, ODD_NAMES

_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1 << 40, 1e300, float("nan"), float("inf"), "", "x", [], {}, [1], [[]], {"a": 1}, -0.5),
    *("1" * 3000, [float("nan")] * 3, [-1, -1, -1], [1 << 40] * 3, "../../x", "\ud800"),
)


def cutout_file(uid: str) -> bytes:
    """Return a whole cutout file."""
    with tempfile.TemporaryDirectory() as folder:
        write_examples(Path(folder), folds={uid: 0}, num_per_series=3, shape_irc=(2, 3, 4))
        return (Path(folder) / f"{uid}.npz").read_bytes()


def cutout(rng: random.Random, name: str) -> Malformed:
    """Return a cutout file with damaged bytes, or written whole with other values than its own."""
    uid = uid_of(name)
    content = cutout_file(uid)
    if rng.random() < 0.6:
        content, change = damaged(rng, content)
        return Malformed(name, uid, {f"{uid}.npz": content}, change=change)
    arrays = dict(np.load(io.BytesIO(content)))
    header = json.loads(arrays["header"].tobytes())
    way = rng.choice(["header", "header", "array", "missing", "more"])
    if way == "header":
        key, value = rng.choice(sorted(header)), rng.choice(_VALUES)
        change = f"header {key} = {value!r}"[:100]
        header[key] = value
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    else:
        key = rng.choice(sorted(arrays))
        change = f"{way} {key}"
        if way == "missing":
            del arrays[key]
        elif way == "more":
            arrays["more"] = np.zeros(3)
        else:
            arrays[key] = rng.choice([arrays[key][:1], arrays[key].astype(np.float32), np.zeros(0, np.int16)])
    with tempfile.TemporaryFile() as file:
        write_aligned_npz(file, arrays)
        file.seek(0)
        return Malformed(name, uid, {f"{uid}.npz": file.read()}, change=change)


def store_entry(rng: random.Random, name: str) -> Malformed:
    """Return an odd kind of file, or an odd name, among cutout files."""
    uid = uid_of(name)
    if rng.random() < 0.6:
        kind, suffix = rng.choice(sorted(KINDS)), rng.choice([".npz", ".npz", "", ".npz.tmp", ".csv"])
        return Malformed(name, uid, make=lambda place: KINDS[kind](place / f"{uid}{suffix}"), change=f"{kind}{suffix}")
    odd = rng.choice(ODD_NAMES)

    def make(place: Path) -> None:
        with open(bytes(place) + b"/" + odd + b".npz", "wb") as file:
            file.write(cutout_file(uid))

    return Malformed(name, uid, make=make, change=f"name {odd[:40]!r}")


@functools.cache
def checkpoint_file() -> bytes:
    """Return a whole checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        return save(Path(folder) / "best.pt").read_bytes()


def checkpoint(rng: random.Random, name: str) -> Malformed:
    """Return a checkpoint with damaged bytes, other entries, or of another kind of file."""
    way = rng.choice(["bytes", "bytes", "entry", "entry", "entry", "kind"])
    if way == "kind":
        kind = rng.choice(sorted(KINDS))
        return Malformed(name, name, make=lambda place: KINDS[kind](place / "best.pt"), change=kind)
    content = checkpoint_file()
    if way == "bytes":
        content, change = damaged(rng, content)
        return Malformed(name, name, {"best.pt": content}, change=change)
    entries = torch.load(io.BytesIO(content), weights_only=True)
    place = entries
    while True:
        key = rng.choice(sorted(place, key=str))
        if not isinstance(place[key], dict) or not place[key] or rng.random() < 0.4:
            break
        place = place[key]
    value = rng.choice([*_VALUES, torch.full((2, 3), float("nan")), torch.zeros(0)])
    place[key] = value
    buffer = io.BytesIO()
    torch.save(entries, buffer)
    return Malformed(name, name, {"best.pt": buffer.getvalue()}, change=f"{key} = {value!r}"[:120])


def configuration(rng: random.Random, name: str) -> Malformed:
    """Return a training configuration as JSON with a changed value, or damaged text."""
    values: dict[str, Any] = demo().to_dict()
    way = rng.choice(["value", "value", "value", "key", "bytes", "text"])
    place: Any = values
    while isinstance(place, dict):
        holder, key = place, rng.choice(sorted(place))
        place = place[key]
        if not place or rng.random() < 0.2:
            break
    change = f"{way} {key}"
    if way == "value":
        holder[key] = rng.choice([*_VALUES, *TEXTS])
        change = f"{key} = {holder[key]!r}"[:120]
    elif way == "key":
        holder[rng.choice([*TEXTS, "seed "])] = holder.pop(key)
    content = json.dumps(values).encode()
    if way == "bytes":
        content, change = damaged(rng, content)
    elif way == "text":
        makers: list[Callable[[], bytes]] = [
            lambda: b"[" * 100_000,
            lambda: b'{"a":' * 50_000,
            lambda: b"null",
            lambda: b"[]",
            lambda: json.dumps(values).encode("utf-16"),
            lambda: content.replace(b"{", b'{"seed": 1, "seed": 2,', 1),
            lambda: b"\xff" + content,
            lambda: b"9" * 5000,
        ]
        place = rng.randrange(len(makers))
        content, change = makers[place](), f"text {place}"
    return Malformed(name, name, {"config.json": content}, change=change)
