"""Odd names, links and kinds of files, in a folder that users fill."""

import os
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from luna_pipeline_tests.fuzz.ct_files import nifti_header, whole_metaimage
from luna_pipeline_tests.fuzz.inputs import Malformed, uid_of

SUFFIXES = (".mhd", ".mha", ".nrrd", ".nii", ".nii.gz", ".dcm", "", ".raw", ".nhdr", ".npz", ".csv", ".pt")
_SPARSE_BYTES = 4 << 30
_DEPTH = 1200


def fifo(path: Path) -> None:
    os.mkfifo(path)


def socket_file(path: Path) -> None:
    # The address of a socket has at most 107 bytes.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def folder_loop(path: Path) -> None:
    path.symlink_to(".")


def folder(path: Path) -> None:
    path.mkdir()


def filled_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("x")


def deep_folder(path: Path) -> None:
    path.mkdir()
    place = os.open(path, os.O_RDONLY)
    for _ in range(_DEPTH):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(_SPARSE_BYTES)


def sparse_nifti(path: Path) -> None:
    head = nifti_header()
    struct.pack_into("<4h", head, 40, 3, 1024, 1024, 2000)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(352 + 2 * 1024 * 1024 * 2000)


def unreadable(path: Path) -> None:
    path.write_bytes(b"x" * 1000)
    path.chmod(0)


def empty(path: Path) -> None:
    path.write_bytes(b"")


KINDS: dict[str, Callable[[Path], None]] = {
    "fifo": fifo,
    "socket": socket_file,
    "device": link_to("/dev/zero"),
    "terminal": link_to("/dev/tty"),
    "loop": loop,
    "folder loop": folder_loop,
    "dangling": link_to("gone"),
    "link to a file": link_to("/proc/self/mem"),
    "folder": folder,
    "filled folder": filled_folder,
    "deep folder": deep_folder,
    "sparse": sparse,
    "sparse nifti": sparse_nifti,
    "unreadable": unreadable,
    "empty": empty,
}
ODD_NAMES = (
    *(
        b"\xff\xfe",
        b"\xc3",
        b"a\nb",
        b"a\tb",
        b"a\rb",
        b"x" * 65,
        b"x" * 128,
        b"x" * 200,
        b"-rf",
        b"%s%d",
        b"a b",
        b"'",
    ),
    *(
        b'"',
        b"a;b",
        b"\xf0\x9f\xab\x81",
        b"\xe2\x80\xae",
        b"con",
        b"~",
        b"$HOME",
        b"*",
        b"1.2.3 ",
        b" 1.2.3",
        b"\x1b[31m",
    ),
    *(b"a\\b", b"1" * 65, b"1..2", b"...", b"#", b"?a=b", b"&"),
)
_ODD_FOLDERS = (
    *(
        b"subset99999999999999999999",
        b"subset-1",
        b"subset9223372036854775808",
        b"subset" + b"9" * 200,
        b"subset\xd9\xa3",
    ),
    *(b"\xff", b"a\nb", b"x" * 200, b"SUBSET5", b"subset1e3"),
)


def odd_entry(rng: random.Random, name: str) -> Malformed:
    """Return an entry of an odd kind or name; each lies in a folder of its own."""
    uid = uid_of(name)
    way = rng.choice(["kind", "kind", "name", "folder"])
    if way == "kind":
        kind, suffix = rng.choice(list(KINDS)), rng.choice(SUFFIXES)
        return Malformed(name, uid, make=lambda place: KINDS[kind](place / f"{uid}{suffix}"), change=f"{kind}{suffix}")
    whole = whole_metaimage(rng.randrange(1 << 30))
    if way == "folder":
        odd = rng.choice(_ODD_FOLDERS)

        def make(place: Path) -> None:
            inner = os.path.join(os.fsencode(place), odd)
            os.mkdir(inner)
            _write(os.path.join(inner, f"{uid}.mha".encode()), whole)

        return Malformed(name, uid, make=make, change=f"folder {odd[:40]!r}")
    odd, suffix = rng.choice(ODD_NAMES), rng.choice([".mha", ".mhd", ".nii", ".nrrd", ".dcm", ""])
    return Malformed(
        name,
        uid,
        make=lambda place: _write(os.path.join(os.fsencode(place), odd + suffix.encode()), whole),
        change=f"name {odd[:40]!r}{suffix}",
    )


def _write(path: bytes, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
