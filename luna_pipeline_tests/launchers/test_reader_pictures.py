"""Pictures of the readers' outlines."""

import io

import pytest
from PIL import Image

from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.launchers.reader_pictures import draw_readers
from luna_pipeline.settings import Settings


def test_each_nodule_of_the_chosen_series_has_a_picture(tmp_path):
    make_phantom(tmp_path / "data", num_series=2, num_subsets=1, seed=3, size_irc=(40, 48, 48), source="lidc_idri")
    settings = Settings(data_dir=tmp_path / "data", home=tmp_path / "home", mlflow_tracking_uri="")
    drawn = list(draw_readers(settings, tmp_path / "out"))
    assert sorted(drawn) == sorted((tmp_path / "out").iterdir())
    assert {Image.open(io.BytesIO(path.read_bytes())).format for path in drawn} == {"PNG"}
    uid = drawn[0].stem.rsplit("_", 1)[0]
    chosen = list(draw_readers(settings, tmp_path / "chosen", [uid]))
    assert [path.name for path in chosen] == [path.name for path in drawn if path.name.startswith(uid)]


def test_a_data_root_without_readers_is_refused(phantom_source, tmp_path):
    settings = Settings(data_dir=phantom_source, home=tmp_path / "home", mlflow_tracking_uri="")
    with pytest.raises(ValueError, match=r"must have readers' marks to be drawn, got none of 6 series"):
        list(draw_readers(settings, tmp_path / "out"))
