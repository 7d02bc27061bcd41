"""Strict reading: every fault of a table with its lines, and what programs add without harm."""

import gzip

import pytest

from luna_pipeline.core.sources.cell_rules import Column
from luna_pipeline.core.sources.checked_tables import check_table, read_checked, read_columns

SPELLINGS = {"series": ("series", "seriesuid"), "x_mm": ("x_mm", "coordX"), "notes": ("notes",)}
COLUMNS = [
    Column(name="series", kind="uid"),
    Column(name="x_mm", kind="number"),
    Column(
        name="diameter_mm",
        kind="number",
        least=1,
        most=150,
        unit="mm, not cm or voxels",
        is_required=False,
        may_be_empty=True,
    ),
    Column(name="fold", kind="whole", least=0, is_required=False, may_be_empty=True),
    Column(name="kind", kind="word", words=("nodule", "excluded"), is_required=False, may_be_empty=True),
    Column(name="ratings", kind="ratings", is_required=False, may_be_empty=True),
]
OF_PATIENTS = [*COLUMNS, Column(name="patient", is_required=False, is_secret=True)]


def written(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def faults_of(tmp_path, text, columns=COLUMNS, **options):
    return [str(fault) for fault in check_table(written(tmp_path, text), columns, **options).faults]


def test_columns_are_read_as_text_with_their_lines(tmp_path):
    table = read_columns(written(tmp_path, "seriesuid,x_mm\na,-1.50\n\nb,007\n"), SPELLINGS, ("series", "x_mm"))
    assert table.to_dict("list") == {"series": ["a", "b"], "x_mm": ["-1.50", "007"], "line": [2, 4]}


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfseries,x_mm,notes\na,1.5,\nb,2,\n",
        b"series,x_mm,notes\r\na,1.5,\r\nb,2,\r\n",
        b"series,x_mm,notes\ra,1.5,\rb,2,\r",
        b'"series","x_mm","notes"\n"a","1.5",""\n"b","2",""\n',
        b" series , x_mm ,notes\n a , 1.5 ,\nb,2, \n",
        b"x_mm,more,series,notes\n1.5,\xff,a,\n2,,b,\n",
        b"series,x_mm,notes\na,1.5,\n,,\nb,2,",
    ],
)
def test_what_programs_add_without_harm_changes_nothing(tmp_path, text):
    table = read_columns(written(tmp_path, text), SPELLINGS, ("series", "x_mm"), ("notes",))
    assert table[["series", "x_mm", "notes"]].to_numpy().tolist() == [["a", "1.5", ""], ["b", "2", ""]]


def test_quoted_lists_are_one_value(tmp_path):
    table = read_columns(written(tmp_path, 'series,notes\na,"1,2,3"\nb,4\n'), SPELLINGS, ("series", "notes"))
    assert table["notes"].tolist() == ["1,2,3", "4"]


def test_a_packed_table_is_read(tmp_path):
    path = written(tmp_path, gzip.compress(b"series\na\n"), "t.csv.gz")
    assert read_columns(path, SPELLINGS, ("series",))["series"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "an empty file (t.csv). Copy it again."),
        ("series,x_mm\na,1\n".encode("utf-16"), "A table must be text in UTF-8, got UTF-16 (t.csv). Save it as CSV"),
        ("series,x_mm\na,1\n".encode("utf-16-le"), "UTF-16 without its mark (t.csv)"),
        (b"PK\x03\x04", "an Excel or ZIP file (t.csv)"),
        (b"a,1\nb,2\n", "The first line must name the columns series, x_mm, got 2 other values (t.csv line 1)"),
        (b"a,Doe^John\nb,\n", "The first line must name the columns series, x_mm, got 2 other values (t.csv line 1)"),
        (b"a;Doe^John\nb;\n", "columns series, x_mm, got one other value (t.csv line 1)"),
        (b"SERIES;X mm\na;1,5\n", "Values must be separated by commas, got semicolons (t.csv line 1)"),
        (b"id,x_mm\na,1\n", "Column series must be in the table, got id, x_mm (t.csv line 1)"),
        (b"series,x_mm,seriesuid\na,1,a\n", "Column series must be in the table once, got series, seriesuid"),
        (b"series;x_mm\na;1,5\n", "Values must be separated by commas, got semicolons (t.csv line 1). Export"),
        (b"series\tx_mm\na\t1\n", "got tabs (t.csv line 1)"),
        (b"series,x_mm\na,1\nb,1,5\n", "A line must have 2 values as the header, got 3 (t.csv line 3). Correct it"),
        (b"series,x_mm\na,1\nb\n", "A line must have 2 values as the header, got 1 (t.csv line 3)"),
        (b'series,x_mm\n"a,1\nb,2\n', "A quote must be closed on its line, got one that is not (t.csv line 2)"),
        (b"series,x_mm\na\xe4,1\n", "series must be text in UTF-8, got 'a\ufffd' (t.csv line 2). Save the table"),
        (b"series,x_mm\na,1\0\n", "x_mm must have no NUL bytes, got '1\u2400' (t.csv line 2)"),
    ],
)
def test_a_malformed_table_is_refused_with_file_and_line(tmp_path, text, words):
    with pytest.raises(ValueError, match=r"t\.csv") as caught:
        read_columns(written(tmp_path, text), SPELLINGS, ("series", "x_mm"))
    assert words in str(caught.value)
    assert "Doe" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_doubled_optional_column_is_refused_too(tmp_path):
    with pytest.raises(ValueError, match="Column notes must be in the table once"):
        read_columns(written(tmp_path, "series,notes,notes\na,1,2\n"), SPELLINGS, ("series",), ("notes",))


@pytest.mark.parametrize("name", ["Kind", "KIND", "ki nd", "K_ind"])
def test_a_column_of_another_case_or_with_other_spaces_is_a_fault_and_still_checked(tmp_path, name):
    found = faults_of(tmp_path, f"series,x_mm,{name},Kinds\na,1,knot,\n")
    assert found == [
        f"Column kind must be spelled so, got {name} (t.csv line 1). Rename it to kind.",
        "kind must be nodule or excluded, got 'knot' (t.csv line 2). Write one of them.",
    ]
    (line,) = faults_of(tmp_path, f"Series,{name},kind,x_mm\na,nodule,nodule,1\n")[1:]
    assert line.startswith(f"Column kind must be in the table once, got {name}, kind (t.csv line 1).")


def test_no_cell_of_a_table_with_patients_is_shown_as_it_may_be_in_the_wrong_column(tmp_path):
    text = "series,x_mm,patient,fold\nDoe John,1,p,4711\nb,Doe^John,p,1\nc,1,p,Doe\n"
    found = faults_of(tmp_path, text, OF_PATIENTS)
    assert [line.split(",")[0].split()[0] for line in found] == ["series", "x_mm", "fold"]
    assert all("got a value that is not shown (t.csv line" in line and "Doe" not in line for line in found)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"series": ""}, "series must have a value in each row, got '' (t.csv line 2). Fill it in"),
        ({"series": "a b"}, "series must be 1 to 64 characters without spaces, got 'a b' (t.csv line 2)"),
        ({"x_mm": '"1,5"'}, "x_mm must have a decimal point, got '1,5' (t.csv line 2). Export the table with points"),
        ({"x_mm": "near"}, "x_mm must be a finite number, got 'near' (t.csv line 2)"),
        ({"x_mm": "inf"}, "x_mm must be a finite number, got 'inf' (t.csv line 2)"),
        ({"diameter_mm": "0.53"}, "diameter_mm must be from 1 to 150 mm, got '0.53' (t.csv line 2). Write mm, not cm"),
        ({"diameter_mm": "151"}, "diameter_mm must be from 1 to 150 mm, got '151'"),
        ({"fold": "1.5"}, "fold must be a whole number, got '1.5'"),
        ({"fold": "-1"}, "fold must be from 0, got '-1'"),
        ({"kind": "knot"}, "kind must be nodule or excluded, got 'knot'"),
        ({"ratings": "6"}, "ratings must be numbers from 1 to 5, such as '4 5 3', got '6'"),
        ({"patient": "M\ufffdller"}, "patient must be text in UTF-8, got a value that is not shown (t.csv line 2)"),
        ({"patient": ""}, "patient must have a value in each row, got ''"),
    ],
)
def test_a_wrong_cell_is_named_by_its_rule_and_the_right_ones_are_not(tmp_path, cells, words):
    right = {"series": "a", "x_mm": "1.5", "diameter_mm": "1", "fold": "0", "kind": "Nodule", "ratings": "4 5"}
    row = right | {"patient": "p"} | cells
    text = ",".join(row) + "\n" + ",".join(row.values()) + "\n"
    found = faults_of(tmp_path, text, OF_PATIENTS if "patient" in cells else COLUMNS)
    assert len(found) == 1
    assert found[0].startswith(words) or words in found[0]
    text = ",".join(right) + ",patient\n" + ",".join(right.values()) + ",p\n"
    assert faults_of(tmp_path, text, OF_PATIENTS) == []


def test_all_faults_are_named_at_once(tmp_path):
    text = (
        "series;x_mm;diameter_mm;kind;patient;extra\n"
        "a;1,5;5,25;nodule;p;\n"
        "b;2;0,5;nodule;p;\n"
        "c;two;5;knot;p;\n"
        "d;1;5\n"
        'e;"1;5;nodule;p;\n'
        "a;1;5;nodule;;\n"
    )
    found = faults_of(tmp_path, text, OF_PATIENTS, unique=[("series",)])
    assert found[0].startswith("Values must be separated by commas, got semicolons (t.csv line 1)")
    assert sorted(line.split(",")[0] for line in found[1:]) == [
        "A line must have 6 values as the header",
        "A quote must be closed on its line",
        "Each row must have its own series",
        "diameter_mm must be from 1 to 150 mm",
        "kind must be nodule or excluded",
        "patient must have a value in each row",
        "x_mm must be a finite number",
    ]
    with pytest.raises(ValueError, match=r"semicolons .* 7 more faults are listed by `luna check_data`\.$"):
        read_checked(written(tmp_path, text), OF_PATIENTS, unique=[("series",)])


def test_rows_of_one_fault_are_one_line_with_the_first_numbers(tmp_path):
    text = "series,x_mm\n" + "".join(f"{number},a\n" for number in range(7))
    (line,) = faults_of(tmp_path, text)
    assert line == "x_mm must be a finite number, got 'a' (t.csv line 2, 3, 4, 5, 6, ...; 7 rows). Correct it."


def test_doubled_rows_are_named_with_their_lines(tmp_path):
    (line,) = faults_of(tmp_path, "series,x_mm\na,1\nb,2\na,3\n", unique=[("series",), ("series", "x_mm")])
    assert line == "Each row must have its own series, got the same in 2 rows (t.csv line 2, 4). Keep one of them."


def test_an_exception_outside_the_range_is_allowed(tmp_path):
    column = Column(name="x_mm", kind="number", least=1, exception=-1)
    assert faults_of(tmp_path, "x_mm\n-1\n1\n", [column]) == []
    assert len(faults_of(tmp_path, "x_mm\n-2\n", [column])) == 1


def test_a_table_of_many_rows_is_checked_by_the_same_rules_when_clean(tmp_path):
    rows = "".join(f"{number}.1,{number}.5\n" for number in range(1, 3000))
    checked = check_table(written(tmp_path, f"series,x_mm\n{rows}3000.1,x\n"), COLUMNS)
    assert len(checked.rows) == 3000
    assert [fault.lines for fault in checked.faults] == [(3001,)]
