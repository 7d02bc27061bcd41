"""Odd entries of a data root: each is a row with its reason, and the CTs next to it are found."""

import os
import socket
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline.core.ct import catalogue_rows
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.catalogue_rows import subset_of_path
from luna_pipeline.core.storage.files import folder_stat_digest
from luna_pipeline.core.storage.tables import write_table
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct

GOOD = "1.2.3.4"


def odd_rows(root: Path) -> pd.DataFrame:
    """Return the rows besides the good one; the table can be written, and the data root can be compared again."""
    folder_stat_digest(root)
    catalogue = catalogue_series(root, patient_key=b"key")
    path = root.parent / "ct_series.parquet"
    write_table(path, catalogue)
    again = catalogue_series(root, patient_key=b"key", kept=pd.read_parquet(path))
    assert again.to_json() == catalogue.to_json()
    rows = catalogue.set_index("series_instance_uid")
    assert rows.loc[GOOD, "is_readable"]
    others = rows.drop(index=GOOD)
    assert not others["is_readable"].any()
    assert others["reason"].str.fullmatch(r"[^\n]+, got:? [^\n]+").all()
    return others


@pytest.fixture(name="root")
def make_root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_ct(root, GOOD, random_hounsfield())
    return root


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["a.mhd", "a.nii.gz", "a.nrrd", "a.dcm", "IM0001"])
def test_a_fifo_is_not_opened(root: Path, name: str) -> None:
    os.mkfifo(root / name)

    assert odd_rows(root)["reason"].str.contains(rf"got a FIFO \({name}\)").all()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("target", ["/dev/zero", "loop.mha", "gone"])
def test_links_to_no_file_are_rows(root: Path, target: str) -> None:
    (root / "loop.mha").symlink_to(target)

    rows = odd_rows(root)

    words = {"/dev/zero": "a character device", "loop.mha": "a link that leads nowhere", "gone": "a dangling link"}
    assert words[target] in rows["reason"].item()


def test_a_socket_is_a_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("x.dcm")
        assert "got a socket" in odd_rows(root)["reason"].item()


def test_a_pair_of_header_and_image_is_named(root: Path) -> None:
    for suffix in (".hdr", ".img"):
        (root / f"1.2.3.5{suffix}").write_bytes(bytes(348))

    assert "must be one file, got a .hdr and an .img" in odd_rows(root)["reason"].item()


@pytest.mark.parametrize("name", ["1.2.3.5.mhd.gz", "1.2.3.5.NRRD.GZ", "IM1.dcm.gz"])
def test_a_packed_ct_is_named(root: Path, name: str) -> None:
    (root / name).write_bytes(b"")

    assert "got a .gz file. Unpack it" in odd_rows(root)["reason"].item()


def test_folders_named_like_files_are_folders(root: Path) -> None:
    for name in ("a.mhd", "b.nii.gz", "c.dcm", "d.npz"):
        write_ct(root / name, f"1.2.3.4.{name[0].encode()[0]}", random_hounsfield())

    catalogue = catalogue_series(root, patient_key=b"key")

    assert catalogue["is_readable"].tolist() == [True] * 5


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\xff", b"a\nb", "\u00fc b".encode(), b"-\x1b[31m"])
def test_names_that_no_table_could_hold_are_shown_printable(root: Path, name: bytes) -> None:
    path = root / os.fsdecode(name + b".mhd")
    # With voxels of its own, so that its name alone is odd.
    (root / "own.raw").write_bytes((root / f"{GOOD}.raw").read_bytes())
    path.write_text((root / f"{GOOD}.mhd").read_text().replace(f"{GOOD}.raw", "own.raw"))

    rows = odd_rows(root)

    assert "must be named by" in rows["reason"].item()
    assert "".join([rows.index[0], rows["path"].item(), rows["reason"].item()]).isprintable()


@pytest.mark.parametrize("num_letters", [65, 150, 200, 240])
def test_a_name_longer_than_a_uid_is_a_row(root: Path, num_letters: int) -> None:
    write_ct(root, "1" * num_letters, random_hounsfield())

    assert "named by 1 to 64 letters" in odd_rows(root)["reason"].item()


def test_a_name_of_64_letters_is_a_uid(root: Path) -> None:
    write_ct(root, "1" * 64, random_hounsfield())

    assert catalogue_series(root, patient_key=b"key")["is_readable"].tolist() == [True, True]


def test_a_folder_whose_name_is_no_utf8_is_said(root: Path) -> None:
    # Renamed afterwards: ITK, which writes it, crashes on such names.
    write_ct(root / "scans", "1.2.3.5", random_hounsfield())
    (root / "scans").rename(root / os.fsdecode(b"sc\xe4ns"))

    assert "must be UTF-8, got sc\\xe4ns/1.2.3.5.mhd" in odd_rows(root)["reason"].item()


def test_a_thousand_folders_deep_is_no_limit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ct(root.parent, "1.2.3.5", random_hounsfield())
    monkeypatch.chdir(root)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    for suffix in (".mhd", ".raw"):
        os.rename(root.parent / f"1.2.3.5{suffix}", f"1.2.3.5{suffix}")
    monkeypatch.chdir(root)

    catalogue = catalogue_series(root, patient_key=b"key")

    assert catalogue["is_readable"].tolist() == [True, True]
    folder_stat_digest(root)
    # Python's own removal, which pytest uses, calls itself for each level.
    subprocess.run(["rm", "-rf", "d"], check=True)


def test_a_folder_that_cannot_be_listed_is_a_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Deeper than a path can be: found from inside, for it cannot be named.
    monkeypatch.chdir(root)
    for _ in range(25):
        os.mkdir("x" * 200)
        os.chdir("x" * 200)
    monkeypatch.chdir(root)

    assert "A folder must be readable, got File name too long" in odd_rows(root)["reason"].item()


@pytest.mark.parametrize(
    ("path", "subset"),
    [
        ("subset0/a.mhd", 0),
        ("a/SUBSET12/b/c.mhd", 12),
        ("subset1/subset2/a.mhd", 2),
        ("subset99999999999999999999/a.mhd", None),
        ("subset/a.mhd", None),
        ("mysubset1/a.mhd", None),
    ],
)
def test_a_subset_is_a_folder_with_a_small_number(path: str, subset: int | None) -> None:
    assert subset_of_path(path) == subset


@pytest.mark.timeout(60)
@pytest.mark.parametrize("target", ["/", ".."])
def test_a_link_to_a_folder_above_is_a_row_and_not_followed(root: Path, target: str) -> None:
    (root.parent / "other").mkdir()
    write_ct(root.parent / "other", "1.2.3.5", random_hounsfield())
    (root / "up").symlink_to(target)

    assert "must be readable, got a link to a folder above (up)" in odd_rows(root)["reason"].item()


def test_a_huge_subset_number_costs_nothing(root: Path) -> None:
    write_ct(root / f"subset{10**30}", "1.2.3.5", random_hounsfield())

    assert catalogue_series(root, patient_key=b"key")["subset"].isna().all()


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate 2 TiB"), RecursionError("maximum recursion depth exceeded"), OverflowError("inf")],
)
@pytest.mark.parametrize("place", ["open_ct", "scan_dicom_files"])
def test_any_failure_of_a_file_is_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    (root / "b").mkdir()
    (root / "b" / "bad.mhd").write_bytes((root / f"{GOOD}.mhd").read_bytes())
    (root / "b" / "x.dcm").write_bytes(b"no DICOM")
    unchanged = getattr(catalogue_rows, place)

    def fails_for_b(files, **named):
        if place == "open_ct":
            if files.name != "bad.mhd":
                return unchanged(files, **named)
        elif not (files := list(files)):
            return unchanged(files)
        raise error

    monkeypatch.setattr(catalogue_rows, place, fails_for_b)

    assert str(error) in " ".join(odd_rows(root)["reason"])
