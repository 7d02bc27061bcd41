"""What is published of LUNA16's archives, and other editions."""

import json

import pytest

from luna_pipeline.core.sources.luna16_archives import (
    ARCHIVES,
    PublishedFile,
    archives_of,
    files_of_record,
    read_checksums,
)

MD5 = "0123456789abcdef0123456789abcdef"


def test_published_archives_are_those_of_the_records():
    assert len(ARCHIVES) == 10
    assert sum(it.num_bytes for it in ARCHIVES.values()) == 66_337_930_718
    assert [it.record for it in ARCHIVES.values()] == [3723295] * 7 + [4121926] * 3
    assert ARCHIVES["subset7.zip"].address("https://zenodo.org/api/") == (
        "https://zenodo.org/api/records/4121926/files/subset7.zip/content"
    )


def test_subsets_are_taken_once_and_in_order():
    assert [it.name for it in archives_of([3, 0, 3])] == ["subset3.zip", "subset0.zip"]
    for wrong, told in (([10], "from 0 to 9, got 10"), ([-1], "got -1"), ([], "got none")):
        with pytest.raises(ValueError, match=told):
            archives_of(wrong)


def test_another_edition_is_read_from_a_file_of_checksums(tmp_path):
    path = tmp_path / "sums.txt"
    path.write_text(f"\n{MD5}  12345  subset8.zip\n")
    assert read_checksums(path) == {"subset8.zip": PublishedFile("subset8.zip", 12345, MD5, 4121926)}
    assert archives_of([8], read_checksums(path))[0].num_bytes == 12345
    with pytest.raises(ValueError, match=r"got none of subset1\.zip"):
        archives_of([1], read_checksums(path))


@pytest.mark.parametrize("line", [f"{MD5} subset1.zip", f"{MD5} 5 annotations.csv", f"{MD5[1:]} 5 subset1.zip", "x"])
def test_a_line_that_is_no_checksum_is_named(line, tmp_path):
    path = tmp_path / "sums.txt"
    path.write_text(f"{MD5} 5 subset0.zip\n{line}\n")
    with pytest.raises(ValueError, match=r"sums\.txt, line 2"):
        read_checksums(path)


def test_a_record_lists_its_files():
    content = json.dumps({"files": [{"key": "annotations.csv", "size": 7, "checksum": f"md5:{MD5}"}]}).encode()
    assert files_of_record(content) == {"annotations.csv": PublishedFile("annotations.csv", 7, MD5, 3723295)}


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"files": [{"key": "a"}]}', b'{"files": [1]}', b"null"])
def test_what_is_no_record_is_refused(content):
    with pytest.raises(ValueError, match="must list files with key, size and checksum"):
        files_of_record(content)
