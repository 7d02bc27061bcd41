"""Sizes that a zip file announces; the readers of each kind of file test the others."""

import io
import zipfile

import pytest

from luna_pipeline.core.storage.zip_limits import zip_problem


@pytest.mark.parametrize("is_zip64", [False, True])
def test_members_are_counted_before_the_directory_is_parsed(monkeypatch: pytest.MonkeyPatch, is_zip64: bool):
    buffer = io.BytesIO()
    if is_zip64:
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(5):
            archive.writestr(f"{number}.dcm" * (number + 1), b"x", compress_type=zipfile.ZIP_STORED)
    assert (b"PK\x06\x06" in buffer.getvalue()) is is_zip64
    assert zip_problem(buffer, max_member_bytes=1, max_members=5) is None
    # Parsing would stop at the damaged last entry, and not know how many there are.
    head, _, tail = buffer.getvalue().rpartition(b"PK\x01\x02")
    buffer = io.BytesIO(head + b"XXXX" + tail)
    assert zip_problem(buffer, max_member_bytes=1, max_members=4) == "more than 4 members"
    assert "damaged" in (zip_problem(buffer, max_member_bytes=1, max_members=5) or "")
