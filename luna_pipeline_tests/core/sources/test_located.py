"""Which data sources a data root holds."""

import pytest

from luna_pipeline.core.sources.located import folder_for, locate_sources


def test_an_empty_or_unknown_root_is_read_as_luna16(tmp_path):
    (located,) = locate_sources(tmp_path)
    assert (located.name, located.root) == ("luna16", tmp_path)
    (absent,) = locate_sources(tmp_path / "absent")
    assert absent.name == "luna16"


def test_a_source_is_in_the_folder_of_its_name_if_that_holds_it(tmp_path):
    for folder in ("luna16", "lndb"):
        (tmp_path / folder).mkdir()
    assert [it.root for it in locate_sources(tmp_path)] == [tmp_path]
    (tmp_path / "luna16/annotations.csv").touch()
    assert [(it.name, it.root) for it in locate_sources(tmp_path)] == [("luna16", tmp_path / "luna16")]


def test_luna16s_cts_may_lie_in_a_folder_of_its_name_below_the_tables(tmp_path):
    (tmp_path / "luna16").mkdir()
    (tmp_path / "annotations.csv").touch()
    assert locate_sources(tmp_path)[0].root == tmp_path
    assert locate_sources(tmp_path, ["luna16"])[0].root == tmp_path


def test_a_source_in_a_folder_beside_tables_at_the_top_is_refused_unless_named(tmp_path):
    (tmp_path / "annotations.csv").touch()
    (tmp_path / "csv_and_folder").mkdir()
    for name in ("scans.csv", "nodules.csv"):
        (tmp_path / "csv_and_folder" / name).touch()
    with pytest.raises(ValueError, match="must lie side by side, got csv_and_folder in a folder"):
        locate_sources(tmp_path)
    assert locate_sources(tmp_path, ["csv_and_folder"])[0].root == tmp_path / "csv_and_folder"


@pytest.mark.parametrize(
    ("folders", "names", "expected"),
    [
        ([], [], "."),
        (["subset0"], ["luna16"], "."),
        (["luna16"], [], "luna16"),
        (["lidc_idri"], [], "luna16"),
        ([], ["luna16", "lidc_idri"], "luna16"),
    ],
)
def test_a_source_that_is_put_where_it_belongs_is_found(tmp_path, folders, names, expected):
    for folder in folders:
        (tmp_path / folder).mkdir()
    place = folder_for(tmp_path, "luna16", names)
    assert place == tmp_path / expected
    place.mkdir(exist_ok=True)
    (place / "annotations.csv").touch()
    assert folder_for(tmp_path, "luna16", names) == place
    assert ("luna16", place) in [(it.name, it.root) for it in locate_sources(tmp_path, names[:1])]


@pytest.mark.parametrize(("names", "said"), [(["luna16", "luna16"], "once"), (["luna17"], "luna16")])
def test_names_are_checked(tmp_path, names, said):
    with pytest.raises(ValueError, match=said):
        locate_sources(tmp_path, names)
