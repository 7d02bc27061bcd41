"""Arrow reads exactly the text that the careful reader reads; ambiguous files are left to the careful reader."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luna_pipeline.core.candidates import csv_tables
from luna_pipeline.core.candidates.clean_csv import read_clean_csv
from luna_pipeline.core.candidates.csv_columns import choose_columns
from luna_pipeline.core.candidates.csv_content import header_line, read_content, split_line
from luna_pipeline.core.candidates.csv_tables import parse_numbers, read_table

COLUMNS = ("series_instance_uid", "x", "y", "z", "class")
HEADER = "seriesuid,coordX,coordY,coordZ,class"
PLAIN = st.one_of(
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str),
    st.from_regex(r"[+-]?[0-9]{0,25}\.?[0-9]{0,25}([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(
        ["1_0", "NaN", "-nan", "nan(1)", "inf", "-Infinity", "0x10", "0x1p3", "1e400", "5e-324", "+.5", "-"]
    ),
)
# Quotes, spaces, NUL, digits and spaces of other alphabets.
ODD = st.sampled_from(
    ["1 ", " 1", '"1,5"', '"1"', '1"', "1\t", "\t1", "\u0661", "\uff11", "1\xa0", "\0", "1\0", "", "\x0b1"]
)
NUMBERS = PLAIN | ODD
UIDS = st.sampled_from(["1.2.3", "1.2.4", "NA", "null", "#1", "é"])
ODD_UIDS = st.sampled_from([" 1.2.3 ", "1.2.3 ", "", "\t1.2", '"1.2.3"', '1"2', "\xa01.2", "a\x85", "\x1f", "\ufeff1"])
CELLS = st.text(alphabet='01.-e,"\t \r\xa0é\0', max_size=5)


@st.composite
def files(draw):
    """A regular table with at most one kind of irregularity."""
    odd = draw(st.sampled_from(["nothing", "uid", "number", "line", "header", "end", "bytes"]))
    number = PLAIN | st.just(draw(ODD)) if odd == "number" else PLAIN
    uid = UIDS | st.just(draw(ODD_UIDS)) if odd == "uid" else UIDS
    line = st.tuples(uid, number, number, number, st.sampled_from(["0", "1", "1.0", "2"])).map(",".join)
    if odd == "line":
        line |= st.just("") | st.lists(CELLS, max_size=7).map(",".join)
    header = HEADER
    if odd == "header":
        header = draw(
            st.sampled_from([f"note,{HEADER}", f"{HEADER},coordX", f" {HEADER}", f"{HEADER},", f"\n{HEADER}"])
        )
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    last = draw(st.sampled_from(["", end, end + end])) if odd == "end" else end
    content = (end.join([header, *draw(st.lists(line, max_size=5))]) + last).encode()
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + content + (b"a,1,2,3,\xff\n" if odd == "bytes" else b"")


def outcome_of(read, path):
    """Return the table as plain values, or the message that refuses it."""
    try:
        table = read(path)
    except ValueError as error:
        return str(error)
    return table.astype(object).to_dict("list"), table.dtypes.astype(str).to_dict()


def write(folder, content):
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parsed(path):
    content = read_content(path)
    line = header_line(content, path.name)
    names = split_line(line)
    return content, names, choose_columns(names, line, COLUMNS, (), file=path.name)


def read_carefully(path):
    return csv_tables._read_carefully(*parsed(path), file=path.name)


def is_clean(path):
    content = path.read_bytes()
    names = content.decode("utf-8-sig", errors="replace").splitlines()[0].split(",") if content else HEADER.split(",")
    chosen = {name: place for place, name in enumerate(COLUMNS)}
    return read_clean_csv(content, names, chosen, repeating=csv_tables.REPEATING) is not None


@settings(max_examples=200, deadline=None)
@given(content=files())
def test_both_readers_agree_on_any_file(tmp_path_factory, content):
    path = write(tmp_path_factory.getbasetemp(), content)
    assert outcome_of(lambda path: read_table(path, COLUMNS), path) == outcome_of(read_carefully, path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "end"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("more", [",note", ""])
def test_files_as_programs_write_them_are_clean(tmp_path, end, last, mark, more):
    lines = [HEADER + more, "1.2.3,-1.50,abc,NaN,1" + more, "1.2.4,1_0,,0x10,nodule" + more]
    path = write(tmp_path, mark + (end.join(lines) + (end if last else "")).encode())
    assert is_clean(path)
    table = read_table(path, COLUMNS)
    assert table["series_instance_uid"].tolist() == ["1.2.3", "1.2.4"]
    assert table[["x", "y", "z"]].to_numpy().tolist() == [["-1.50", "abc", "NaN"], ["1_0", "", "0x10"]]
    assert table["line"].tolist() == [2, 3]


@pytest.mark.parametrize(
    "content",
    [
        "",
        HEADER,
        f"{HEADER}\na,1,2,3\n",
        f"{HEADER}\na,1,2,3,0,5\n",
        f'{HEADER}\na,"1,234",2,3,0\n',
        f"{HEADER}\na, 1,2,3,0\n",
        f"{HEADER}\na,1\0,2,3,0\n",
        f"{HEADER},coordX\na,1,2,3,0,4\n",
        f"{HEADER},\na,1,2,3,0,4\n",
        HEADER.encode() + b"\na,1,2,3,\xff\n",
        b"\xff" + HEADER.encode() + b"\na,1,2,3,0\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_left_alone(tmp_path, content):
    assert not is_clean(write(tmp_path, content))


def test_a_long_file_is_read_whole(tmp_path):
    """The file is longer than one block of Arrow: chunks have different categories."""
    rows = [f"1.2.{row // 999},{row / 7!r},{-row},{row}.50,{row % 2}" for row in range(60_000)]
    path = write(tmp_path, "\n".join([HEADER, *rows]))
    assert path.stat().st_size > 2 << 20
    table = read_table(path, COLUMNS)
    assert table["x"].tolist() == [repr(row / 7) for row in range(60_000)]
    assert table["series_instance_uid"].tolist() == [f"1.2.{row // 999}" for row in range(60_000)]
    assert table["series_instance_uid"].cat.categories.is_unique
    np.testing.assert_array_equal(parse_numbers(table["class"])[0], np.arange(60_000) % 2)


@pytest.mark.seed_defect(25)
@settings(deadline=None)
@given(words=st.lists(NUMBERS | st.floats(width=64).map("{:.17g}".format) | st.floats(width=64).map("{:.25e}".format)))
def test_numbers_are_those_of_python_to_the_last_bit(words):
    values, is_number = parse_numbers(pd.Series(words, dtype=object))
    for word, value, is_one in zip(words, values.tolist(), is_number, strict=True):
        try:
            expected = None if "_" in word else float(word)
        except ValueError:
            expected = None
        assert is_one == (expected is not None)
        # Also the sign of zero; all NaNs are equal.
        assert math.isnan(value) if expected is None or math.isnan(expected) else repr(value) == repr(expected)


@pytest.mark.seed_defect(25)
@settings(deadline=None)
@given(word=st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.floats(0, 1e-300).map("{:.17e}".format))
def test_a_number_alone_is_that_of_python(word):
    """One irregular number must not send the whole column to Python's parser."""
    assert repr(parse_numbers(pd.Series([word]))[0].item()) == repr(float(word))
