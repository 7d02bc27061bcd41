"""LUNA16's archives as published on Zenodo: names, sizes, MD5 and addresses; those of mirrors and other editions."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ZENODO = "https://zenodo.org/api"
SUBSETS = range(10)
_TABLES_RECORD, _SECOND_RECORD = 3723295, 4121926
_CHECKSUM_LINE = re.compile(r"([0-9a-f]{32})\s+(\d{1,15})\s+(\S+)")


@dataclass(frozen=True)
class PublishedFile:
    """A file of a Zenodo record.

    Attributes:
        name: Its name in the record.
        num_bytes: Its size.
        md5: MD5 of its bytes, 32 hexadecimal digits.
        record: Number of the record.
    """

    name: str
    num_bytes: int
    md5: str
    record: int

    def address(self, base: str) -> str:
        """Return the address of its bytes at a server with Zenodo's interface, such as ``ZENODO``."""
        return f"{base.rstrip('/')}/records/{self.record}/files/{self.name}/content"


def _archive(number: int, num_bytes: int, md5: str) -> PublishedFile:
    return PublishedFile(f"subset{number}.zip", num_bytes, md5, _SECOND_RECORD if number >= 7 else _TABLES_RECORD)


ARCHIVES: Mapping[str, PublishedFile] = {
    it.name: it
    for it in (
        _archive(0, 6811924508, "1065b0f42b8c25cf29260fd924a3c3a2"),
        _archive(1, 6334778552, "2eda28bb123543074f5cd849499b87ff"),
        _archive(2, 7257937108, "685b484b085bcdb81c525f3b1bf97c51"),
        _archive(3, 6896620114, "54707e9e8954af29326eed60f38ea321"),
        _archive(4, 6856144330, "98225ccb1a41fc434631f63f4284796a"),
        _archive(5, 6610460097, "395ec714c4123cf213fb7b08f05ee9cc"),
        _archive(6, 6531050274, "d162df1444a6f2674ab8273c7f9e1520"),
        _archive(7, 6313598213, "e99b8921990d1414bb5e92130371e8a3"),
        _archive(8, 6025767505, "38260ca9a8741888997bcebedfabc3f1"),
        _archive(9, 6699650017, "e55c473bbeebd712eb2224a58998be8e"),
    )
}
ANNOTATIONS = PublishedFile("annotations.csv", 136986, "f4404df491aee6445a4485061bfdffdd", _TABLES_RECORD)
TABLES: Mapping[str, str | None] = {
    "annotations.csv": None,
    "candidates_V2.csv": "candidates_V2.zip",
    "annotations_excluded.csv": "evaluationScript.zip",
    "seriesuids.csv": "evaluationScript.zip",
}
"""Tables that are downloaded, and the zip file of the record that holds each; None for a file of its own."""


def record_address(base: str) -> str:
    """Return the address of the description of the record with the tables."""
    return f"{base.rstrip('/')}/records/{_TABLES_RECORD}"


def files_of_record(content: bytes) -> dict[str, PublishedFile]:
    """Return the files of a record by name, from Zenodo's description of it (JSON).

    Raises:
        ValueError: If it is no such description.
    """
    try:
        found = json.loads(content)
        files = [
            PublishedFile(it["key"], int(it["size"]), it["checksum"].removeprefix("md5:"), _TABLES_RECORD)
            for it in found["files"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        msg = f"The description of a record must list files with key, size and checksum, got {reason} (record"
        raise ValueError(f"{msg} {_TABLES_RECORD}). Check --from.") from error
    return {it.name: it for it in files}


def read_checksums(path: Path) -> dict[str, PublishedFile]:
    """Read sizes and MD5 of another edition of the archives: a line ``MD5 BYTES NAME`` for each.

    Raises:
        ValueError: If a line is no such line, or names no archive of LUNA16.
    """
    found: dict[str, PublishedFile] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        entry = _CHECKSUM_LINE.fullmatch(line.strip())
        if entry is None or entry[3] not in ARCHIVES:
            rule = "Each line must be MD5, bytes and name of an archive subset0.zip to subset9.zip"
            raise ValueError(f"{rule}, got {line[:80]!r} ({path.name}, line {number}). Correct it.")
        found[entry[3]] = PublishedFile(entry[3], int(entry[2]), entry[1], ARCHIVES[entry[3]].record)
    return found


def archives_of(subsets: Iterable[int], editions: Mapping[str, PublishedFile] | None = None) -> list[PublishedFile]:
    """Return the archives of subsets, in their order, each once.

    Args:
        subsets: Numbers from 0 to 9.
        editions: Other sizes and MD5, such as those of ``read_checksums``; None for the published ones.

    Raises:
        ValueError: If a number is out of range, or ``editions`` lacks one.
    """
    known = ARCHIVES if editions is None else editions
    found: dict[str, PublishedFile] = {}
    for subset in subsets:
        if subset not in SUBSETS:
            raise ValueError(f"Subsets must be numbers from 0 to 9, got {subset}. Correct --subsets.")
        name = f"subset{subset}.zip"
        if name not in known:
            raise ValueError(f"Each archive must have a checksum, got none of {name} (--checksums). Add its line.")
        found[name] = known[name]
    if not found:
        raise ValueError("One subset or more must be named, got none (--subsets). Name some, such as 0,1.")
    return list(found.values())
