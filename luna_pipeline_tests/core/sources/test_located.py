"""Which data sources a data root holds."""

import pytest

from luna_pipeline.core.sources.located import locate_sources


def test_an_empty_or_unknown_root_is_read_as_luna16(tmp_path):
    (located,) = locate_sources(tmp_path)
    assert (located.name, located.root) == ("luna16", tmp_path)
    (absent,) = locate_sources(tmp_path / "absent")
    assert absent.name == "luna16"


def test_a_source_is_in_the_folder_of_its_name(tmp_path):
    (tmp_path / "luna16").mkdir()
    assert locate_sources(tmp_path)[0].root == tmp_path / "luna16"


@pytest.mark.parametrize(("names", "said"), [(["luna16", "luna16"], "once"), (["luna17"], "luna16")])
def test_names_are_checked(tmp_path, names, said):
    with pytest.raises(ValueError, match=said):
        locate_sources(tmp_path, names)
