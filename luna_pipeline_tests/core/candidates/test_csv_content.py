"""What is wrong with a table is said in one line, with its place and what to do, before memory is taken."""

import gzip
import os
import resource
import tracemalloc

import pytest

from luna_pipeline.core.candidates import csv_content
from luna_pipeline.core.candidates.csv_content import max_table_bytes, read_content
from luna_pipeline.core.candidates.csv_tables import read_table
from luna_pipeline.core.evaluation.froc_files import read_scans
from luna_pipeline.core.storage.regular_files import NotRegularFileError

COLUMNS = ("series_instance_uid", "x", "y", "z", "class")
HEADER = "seriesuid,coordX,coordY,coordZ,class"
ROW = "1.2.3,1.5,2,3,0"
TEXT = f"{HEADER}\n{ROW}\n"


def write(folder, content, name="table.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def message_of(path, read=lambda path: read_table(path, COLUMNS)):
    with pytest.raises(ValueError, match=rf"\({path.name}") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_named(tmp_path, encoding):
    assert "must be text in UTF-8, got UTF-" in message_of(write(tmp_path, TEXT.encode(encoding)))


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"PK\x03\x04", "an Excel or ZIP file"),
        (b"\xd0\xcf\x11\xe0", "an Excel file"),
        (gzip.compress(TEXT.encode()), "a gzip file"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\0" * 100, "bytes that are no text"),
        (b"\x7fELF\2\1\1\0\0\0", "bytes that are no text"),
    ],
    ids=["zip", "ole", "gzip", "html", "lfs", "zeros", "elf"],
)
def test_other_kinds_of_files_are_named(tmp_path, start, kind):
    path = write(tmp_path, start + TEXT.encode())
    assert f"must be text in UTF-8, got {kind}" in message_of(path)
    assert f"got {kind}" in message_of(path, read_scans)


@pytest.mark.parametrize("content", ["", "\n", "\ufeff", " \r\n\t\n"])
def test_an_empty_file_is_named(tmp_path, content):
    path = write(tmp_path, content)
    assert "must have a header line, got an empty file" in message_of(path)
    assert "must have a scan in each line, got an empty file" in message_of(path, read_scans)
    assert "got an empty file" in message_of(write(tmp_path, gzip.compress(content.encode()), "table.csv.gz"))


@pytest.mark.parametrize(
    ("separator", "kind"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars"), (" ", "blanks")]
)
@pytest.mark.parametrize("is_quoted", [False, True])
def test_other_separators_are_named(tmp_path, separator, kind, is_quoted):
    text = TEXT.replace(",", f'"{separator}"' if is_quoted else separator)
    assert f"must be separated by commas, got {kind} (table.csv line 1)" in message_of(write(tmp_path, text))
    path = write(tmp_path, f"1.2.3{separator}0\n1.2.4{separator}1\n")
    assert f"must be separated by commas, got {kind} (table.csv" in message_of(path, read_scans)


@pytest.mark.parametrize("row", [ROW, "Smith^John,1,2,3,0", "Smith^John,A,B,C,", '"1.2.3","1","2","3","0"'])
def test_a_first_line_of_values_is_named_and_not_shown(tmp_path, row):
    message = message_of(write(tmp_path, f"{row}\n{row}\n"))
    assert "must name the columns seriesuid, coordX, coordY, coordZ, class, got 5 other values" in message
    assert "Smith" not in message


@pytest.mark.parametrize("name", ["is_malignant", "mal_bool"])
@pytest.mark.parametrize("change", [str.upper, str.title, lambda name: name.replace("_", " ")])
def test_an_optional_column_of_another_spelling_is_not_left_out_silently(tmp_path, name, change):
    path = write(tmp_path, f"{HEADER},{change(name)}\n{ROW},1\n")
    with pytest.raises(ValueError, match=r"Column is_malignant must be spelled so, got .* Rename it to is_malignant\."):
        read_table(path, COLUMNS, optional=("is_malignant",))
    assert len(read_table(path, COLUMNS)) == 1


@pytest.mark.parametrize(
    "header",
    [
        "seriesuid,coord_x,coord_y,coord_z,diameter_mm,is_malignant,malignant_details,bboxLowX,len_mal_details",
        "seriesuid,coordX,coordY,coordZ,diameter_mm,n_raters,malignancies,mal_mean,mal_median,deq",
        "seriesuid,coordX,coordY,coordZ,diameter_mm",
    ],
)
def test_published_headers_are_accepted(tmp_path, header):
    path = write(tmp_path, f"{header}\n{','.join('1' * (header.count(',') + 1))}\n")
    table = read_table(
        path, ("series_instance_uid", "x", "y", "z", "diameter_mm"), optional=("is_malignant", "ratings")
    )
    assert table.drop(columns="line").to_numpy().tolist() == [["1"] * (len(table.columns) - 1)]


def test_a_blank_first_line_is_named(tmp_path):
    assert "got a blank line (table.csv line 1)" in message_of(write(tmp_path, "\n" + TEXT))


@pytest.mark.parametrize("second", ["coordX", "coord_x", " coordX "])
def test_a_doubled_column_is_named(tmp_path, second):
    path = write(tmp_path, f"{HEADER},{second}\n{ROW},7\n")
    assert f"Column coordX must be in the table once, got coordX, {second.strip()}" in message_of(path)


def test_a_column_that_is_not_read_may_be_there_twice_or_have_no_name(tmp_path):
    path = write(tmp_path, f",note,{HEADER},note\n0,a,{ROW},b\n")
    assert read_table(path, COLUMNS)[["x", "class"]].to_numpy().tolist() == [["1.5", "0"]]


@pytest.mark.parametrize(
    "rows",
    [
        ['1.2.3,1,"2,3,0'],
        [ROW, '"1.2.4,1,2,3,0', '1.2.5,1,2,3,"0'],
        [ROW, '1.2.4,1,2,3,0,"a', 'b"'],
        ['1.2.3,1,2,3,0,"Smith'],
    ],
)
def test_a_quote_that_is_not_closed_on_its_line_is_named(tmp_path, rows):
    """Rows within quotes would vanish, or become one row."""
    more = ",note" if any(row.count(",") > 4 for row in rows) else ""
    number = next(number for number, row in enumerate(rows, start=2) if row.count('"') % 2)
    message = message_of(write(tmp_path, "\n".join([HEADER + more, *rows, ""])))
    assert f"A quote must be closed on its line, got one that is not (table.csv line {number})" in message
    assert "Smith" not in message


@pytest.mark.parametrize("text", ['1.2.3\n"1.2.4\n1.2.5\n1.2.6"\n', '1.2.3\n"1.2.4\n1.2.5\n'])
def test_a_quote_that_is_not_closed_in_a_list_of_scans_is_named(tmp_path, text):
    assert "got one that is not (table.csv line 2)" in message_of(write(tmp_path, text), read_scans)


def test_a_nul_byte_costs_its_row_its_number(tmp_path):
    table = read_table(write(tmp_path, f"{HEADER}\n{ROW}\n1.2.3,1\0,2,3,0\n1.2\0,1,2,3,0\n"), COLUMNS)
    assert table["x"].tolist()[-2:] == ["1\u2400", "1"]
    assert table["series_instance_uid"].tolist()[-1] == "1.2\u2400"


@pytest.mark.parametrize("read", [lambda path: read_table(path, COLUMNS), read_scans])
@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_unpacking_and_reading_stop_at_the_limit(tmp_path, monkeypatch, name, read):
    monkeypatch.setenv("LUNA_MAX_TABLE_MIB", "1")
    content = (TEXT + f"{ROW}\n" * 400_000).encode()
    path = write(tmp_path, gzip.compress(content, 1) if name.endswith(".gz") else content, name)
    tracemalloc.start()
    assert "at most 1 MiB unpacked, got more" in message_of(path, read)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_bomb_of_zeros_costs_no_memory_above_the_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("LUNA_MAX_TABLE_MIB", "2")
    packed = gzip.compress(b"\0" * (64 << 20), 9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "at most 2 MiB" in message_of(write(tmp_path, packed, "table.csv.gz"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 << 10


def test_a_sparse_file_is_not_read(tmp_path):
    path = write(tmp_path, TEXT)
    os.truncate(path, 4 << 30)
    assert "at most 256 MiB" in message_of(path)


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "much", "1e99"])
def test_the_limit_is_a_positive_number(monkeypatch, text):
    monkeypatch.setenv("LUNA_MAX_TABLE_MIB", text)
    if not text:
        assert max_table_bytes() == 256 << 20
        return
    with pytest.raises(ValueError, match=rf"LUNA_MAX_TABLE_MIB must be .*, got '{text}' \(environment\)"):
        max_table_bytes()


@pytest.mark.parametrize("name", ["a", "coordX", ""])
def test_columns_have_a_limit(tmp_path, name):
    path = write(tmp_path, f"{HEADER}{f',{name}' * 1_000_000}\n{ROW}\n")
    assert "at most 4096 columns, got " in message_of(path)


def test_rows_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_content, "MAX_ROWS", 100)
    clean, quoted = f"{ROW}\n" * 101, '"1.2.3",1,2,3,0\n' * 101
    assert "at most 100 rows, got more" in message_of(write(tmp_path, f"{HEADER}\n{quoted}"))
    monkeypatch.setattr(csv_content, "_UNCOUNTED_BYTES", 100)
    assert "at most 100 rows, got more" in message_of(write(tmp_path, f"{HEADER}\n{clean}"))
    assert len(read_table(write(tmp_path, f"{HEADER}\n" + f"{ROW}\n" * 100), COLUMNS)) == 100


@pytest.mark.parametrize("row", ["1.2.3,1,2,3," + "0" * (2 << 20), "1.2.3,1,2,3,0" + ",0" * (1 << 20)])
def test_lines_have_a_limit(tmp_path, row):
    assert "at most 1,048,576 bytes, got more (table.csv line 3)" in message_of(write(tmp_path, f"{TEXT}{row}\n"))
    assert "at most 1,048,576 bytes" in message_of(write(tmp_path, row.replace(",", "."))) or row.count(",") > 4


def test_wide_tables_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("luna_pipeline.core.candidates.csv_tables._CELLS_AT_A_TIME", 10)
    rows = [f'"1.2.{row % 3}",{row},2,3,0' for row in range(7)]
    table = read_table(write(tmp_path, "\n".join([HEADER, *rows[:3], "", *rows[3:]])), COLUMNS)
    assert table["x"].tolist() == [str(row) for row in range(7)]
    assert table["line"].tolist() == [2, 3, 4, 6, 7, 8, 9]
    assert table["series_instance_uid"].tolist() == [f"1.2.{row % 3}" for row in range(7)]


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "folder.csv").mkdir()
    for name in ("fifo.csv", "folder.csv"):
        with pytest.raises(NotRegularFileError, match="Only regular files are opened"):
            read_table(tmp_path / name, COLUMNS)


def test_an_open_pipe_may_be_a_table(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, TEXT.encode())
    os.close(writer)
    assert read_content(csv_content.Path(f"/dev/fd/{reader}")) == TEXT.encode()
    os.close(reader)


@pytest.mark.parametrize("space", ["\t", "\x1c", "\x85", "\u2028", "\xa0", " "])
def test_spaces_of_any_kind_around_names_do_not_matter(tmp_path, space):
    text = f"{HEADER.replace('coordX', f'{space}coordX{space}')}\n{ROW}\n"
    assert read_table(write(tmp_path, text), COLUMNS)["x"].tolist() == ["1.5"]


def test_the_names_in_a_message_are_few_short_and_printable(tmp_path):
    names = ["coordX" + "9" * 500, "a\u2028b", *(f"c{number}" for number in range(100))]
    message = message_of(write(tmp_path, ",".join(["seriesuid", *names]) + "\n"))
    assert "and 83 more" in message
    assert r"'a\u2028b'" in message
    assert len(message) < 400
