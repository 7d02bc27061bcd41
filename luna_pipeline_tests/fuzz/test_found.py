"""What the generators and atheris found, each as one small input."""

import os
import re

import pytest

from luna_pipeline.core.candidates.csv_content import read_content
from luna_pipeline.core.candidates.csv_tables import read_table
from luna_pipeline.core.config.plain import from_plain
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.reading import UnreadableCtError, read_ct
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.storage.regular_files import NotRegularFileError, open_regular
from luna_pipeline.core.training.checkpoint_file import CheckpointError, load_checkpoint
from luna_pipeline.core.training.parts import StartConfig
from luna_pipeline_tests.fuzz.ct_files import whole_metaimage
from luna_pipeline_tests.phantoms import edit_dicom, random_hounsfield, write_dicom_series

UID = "1.2.3"
COLUMNS = ("series_instance_uid", "x", "y", "z", "class")


@pytest.mark.parametrize("sign", ["\x1d", "\x0c", "\x85"])
@pytest.mark.parametrize("column", ["seriesuid", "coordZ", "class"])
def test_signs_that_python_takes_for_blanks_in_a_header_change_no_column(tmp_path, sign, column):
    header = "seriesuid,coordX,coordY,coordZ,class".replace(column, f"{sign}{column}")
    (tmp_path / "table.csv").write_text(f"{header}\n{UID},1,2,3,0\n")
    table = read_table(tmp_path / "table.csv", COLUMNS)
    assert table[list(COLUMNS)].to_numpy().tolist() == [[UID, "1", "2", "3", "0"]]


def test_a_table_of_line_ends_is_counted_before_its_lines_take_memory(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"seriesuid,coordX\n" + b"\n" * (20 << 20))
    with pytest.raises(ValueError, match=r"at most 5,000,000 rows, got more \(table.csv\)"):
        read_content(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"ElementSpacing =", b"ElementSpacing\xa0=", "must be 'key = value', got 'ElementSpacing"),
        (b"DimSize = 10 8 6", b"DimSize = 10 8 6\xa0", "DimSize must be"),
        (b"0.7 0.8 2.5", b"0.7 0.8\xa02.5", "ElementSpacing must be"),
    ],
)
def test_a_blank_of_latin_1_is_a_part_of_its_word(tmp_path, old, new, words):
    path = tmp_path / f"{UID}.mha"
    path.write_bytes(whole_metaimage(0).replace(old, new))
    with pytest.raises(UnreadableCtError, match=words):
        read_ct(path, series_instance_uid=UID)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1\xae2.840.10008.1.2.1", "1.2.840.113619.5.2"])
def test_plain_pixels_of_another_transfer_syntax_are_refused_by_its_name(tmp_path, syntax):
    folder = write_dicom_series(tmp_path / "ct", UID, random_hounsfield())
    path = folder / "slice0001.dcm"
    plain = b"1.2.840.10008.1.2.1\0"
    path.write_bytes(path.read_bytes().replace(plain, syntax.encode("latin-1").ljust(len(plain), b"\0"), 1))
    with pytest.raises(UnreadableCtError, match="must be in fragments, got a length as of plain pixels"):
        read_ct(folder, series_instance_uid=UID)


@pytest.mark.parametrize("keyword", ["BitsStored", "SamplesPerPixel"])
def test_zero_is_no_missing_value(tmp_path, keyword):
    folder = write_dicom_series(tmp_path / "ct", UID, random_hounsfield())
    edit_dicom(folder / "slice0001.dcm", **{keyword: 0})
    with pytest.raises(UnreadableCtError, match=r"got .*0"):
        read_ct(folder, series_instance_uid=UID)


def test_a_name_that_is_no_utf_8_may_be_a_part_of_a_reason(tmp_path):
    (tmp_path / f"{UID}.mha").write_bytes(whole_metaimage(0))
    folder = write_dicom_series(tmp_path / "ct", UID, random_hounsfield())
    content = (folder / "slice0001.dcm").read_bytes()
    with open(os.fsencode(folder) + b"/\xc3.dcm", "wb") as file:
        file.write(content[:300])
    catalogue = catalogue_series(tmp_path, patient_key=b"key")
    assert all(reason.encode() for reason in catalogue["reason"].dropna())


def test_a_link_to_itself_is_no_regular_file(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(NotRegularFileError, match="got a link that leads nowhere"):
        open_regular(tmp_path / "loop")


def test_memory_of_a_process_behind_a_link_is_refused_in_one_line(tmp_path):
    for name in (f"{UID}.npz", "last.pt"):
        (tmp_path / name).symlink_to("/proc/self/mem")
    store = CutoutStore(tmp_path)
    assert re.fullmatch(r"[^\n]+, got:? [^\n]+", store.check(UID))
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_mapping_in_place_of_a_text_or_nothing_is_refused_by_its_place():
    values = {"loader": "file", "name": "a", "version": {"a": 1}, "new_head": False}
    with pytest.raises(TypeError, match=r"start's version must be a single value, got \{'a': 1\}"):
        from_plain(StartConfig, values, "start")
