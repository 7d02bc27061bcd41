"""JSON files of users and earlier runs: what is wrong with one is one line with its name."""

import os

import pytest

from luna_pipeline.core.config.json_files import MAX_JSON_BYTES, read_json_object


def read(path):
    return read_json_object(path, "A configuration", advice="Write it again.")


def test_an_object_is_read_with_or_without_a_byte_order_mark(tmp_path):
    for begin in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "c.json").write_bytes(begin + b'{"a": [1, {"b": NaN}]}')
        assert read(tmp_path / "c.json")["a"][0] == 1


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "Expecting value: line 1 column 1"),
        (b"{", "Expecting property name"),
        (b'{"a": 1,\n "b" 2}', "Expecting ':' delimiter: line 2 column 6"),
        (b'{"a": 1, "a": 2}', "the key 'a' twice"),
        (b'{"a": {"b": 1, "b": 1}}', "the key 'b' twice"),
        (b"[1]", "a list instead of an object"),
        (b"null", "a NoneType instead of an object"),
        (b'"text"', "a str instead of an object"),
        ('{"a": "ä"}'.encode("latin-1"), "no UTF-8 at byte 7"),
        ('{"a": 1}'.encode("utf-16"), "no UTF-8 at byte 0"),
        (b'{"a": ' * 60 + b"1" + b"}" * 60, "nested in more than 50 levels"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b"\x80\x04}q\x00.", "no UTF-8 at byte 0"),
        (b" " * (MAX_JSON_BYTES + 1), f"more than {MAX_JSON_BYTES} bytes"),
        (b"a: &a [1]\nb: [*a, *a]\n", "Expecting value: line 1 column 1"),
    ],
    ids=range(16),
)
def test_what_is_no_object_is_one_line_with_file_and_place(tmp_path, content, got):
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="A configuration must be a JSON file with an object, got ") as caught:
        read(path)
    assert got in str(caught.value)
    assert f"({path}). Write it again." in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.json")
    for path, kind in ((tmp_path / "fifo.json", "a FIFO"), (tmp_path, "a folder")):
        with pytest.raises(ValueError, match=f"got {kind}"):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.json")
