"""What the page shows of a series that was cut."""

import base64
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from PIL import Image
from upath import UPath

from luna_pipeline.assets.series_facts import SeriesFacts


def facts(path, *, classes: list[int]) -> dict:
    """Facts of series 1.2, whose cutout in row i has the HU i * 10 everywhere."""
    number = len(classes)
    chunks = np.ones((number, 3, 4, 5), np.int16) * (np.arange(number) * 10)[:, None, None, None].astype(np.int16)
    cut = SimpleNamespace(ct_chunks=chunks, candidate_id=np.arange(number))
    store = SimpleNamespace(path=lambda uid: path, read=lambda uid: cut)
    table = pd.DataFrame({"candidate_id": range(number), "series_instance_uid": "1.2", "class": classes})
    catalogue = pd.DataFrame({"series_instance_uid": ["1.1", "1.2"], "subset": [pd.NA, 3]})
    service = SimpleNamespace(store=store, candidates=table, catalogue=catalogue)
    return SeriesFacts(service, data="synthetic phantom").of("1.2")


def test_it_has_the_file_the_number_of_each_class_and_the_subset(tmp_path):
    shown = facts(tmp_path / "1.2.npz", classes=[0, 0, 1])
    assert shown["file"].value == str(tmp_path / "1.2.npz")
    assert (shown["num_class_1"], shown["num_class_0"], shown["subset"]) == (1, 2, 3)


def test_it_has_a_small_picture_of_six_cutouts_nodules_first(tmp_path):
    text = facts(Path(tmp_path / "1.2.npz"), classes=[0, 0, 0, 0, 0, 0, 1])["cutouts"].value
    assert text.startswith("![middle slices of cutouts of a synthetic phantom, nodules first, research use only](")
    assert len(text) < 99_000
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(text.split("base64,")[1].rstrip(")")))))
    assert picture.shape == (4 + 2, 6 * (5 + 2))
    greys = picture[2, 3::7].tolist()
    assert greys == [193, 182, 184, 186, 188, 189]


def test_a_file_elsewhere_is_not_fetched_for_a_picture():
    assert "cutouts" not in facts(UPath("memory://bucket/1.2.npz"), classes=[1])
