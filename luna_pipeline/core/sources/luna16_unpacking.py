"""Unpacking of an archive of CTs into the data root, with a journal of the members that are there.

The journal is a text file of JSON lines: first the archive's MD5, then a member a line (name, bytes, CRC-32, time of
the file), and last ``{"complete": NUMBER}``. A later call recognises an unpacked archive by it without the archive.
"""

import json
import os
import threading
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luna_pipeline.core.storage.files import sweep_temporary_files
from luna_pipeline.core.storage.zip_members import (
    BrokenMemberError,
    files_in,
    has_content,
    open_zip,
    require_methods,
    unpack,
)


@dataclass
class Unpacked:
    """What became of the members of an archive.

    Attributes:
        num_written: Members that were unpacked.
        num_present: Members whose file was there and right.
        num_bytes: Bytes of all members that are there.
        broken: Names of members that do not unpack, each with the reason.
        left_out: Names of headers whose voxels do not unpack; they were not written.
        is_stopped: Whether it was given up before the end.
    """

    num_written: int = 0
    num_present: int = 0
    num_bytes: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    is_stopped: bool = False


class MemberJournal:
    """Journal of the members of one archive that lie in a folder."""

    def __init__(self, path: Path, folder: Path) -> None:
        """Read the journal; of a line that a kill cut off nothing is taken.

        Args:
            path: Its file; it may be missing.
            folder: Folder that the members' names start from.
        """
        self._path, self._folder = path, folder
        self._members: dict[str, dict[str, Any]] = {}
        self._md5, self._num_complete = "", -1
        self._compared: dict[tuple[str, int, int, int], bool] = {}
        content = path.read_bytes() if path.exists() else b""
        for line in content.split(b"\n")[:-1]:
            self._adopt(line)

    def is_complete(self, md5: str) -> bool:
        """Return whether all members of the archive with this MD5 are there.

        Files with another time than when they were written are read, and their CRC-32 compared.
        """
        if self._md5 != md5 or self._num_complete != len(self._members):
            return False
        return all(self._is_there(name) and self._note_time(name) for name in self._members)

    def totals(self) -> Unpacked:
        """Return number and bytes of the members that are there."""
        num_bytes = sum(it["bytes"] for it in self._members.values())
        return Unpacked(num_present=len(self._members), num_bytes=num_bytes)

    def has(self, member: zipfile.ZipInfo) -> bool:
        """Return whether a member is there; a file that is not in the journal is read and compared."""
        known = self._members.get(member.filename)
        if known is not None and (known["bytes"], known["crc"]) == (member.file_size, member.CRC):
            return self._is_there(member.filename)
        return self._compare(member)

    def start(self, md5: str) -> None:
        """Start the journal of an archive, unless it is this one's."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._md5 != md5:
            self._path.unlink(missing_ok=True)
            self._members, self._md5, self._num_complete = {}, md5, -1
            self._append({"md5": md5})
        elif not self._path.read_bytes().endswith(b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")

    def add(self, member: zipfile.ZipInfo) -> None:
        """Note a member that is there."""
        status = (self._folder / member.filename).stat()
        entry = {"bytes": member.file_size, "crc": member.CRC, "time_ns": status.st_mtime_ns}
        if self._members.get(member.filename) != entry:
            self._members[member.filename] = entry
            self._append({"name": member.filename, **entry})

    def finish(self, names: set[str]) -> None:
        """Note that all members of the archive, which have these names, are there."""
        if set(self._members) == names and self._num_complete != len(names):
            self._num_complete = len(names)
            self._append({"complete": len(names)})

    def _is_there(self, name: str) -> bool:
        known, path = self._members[name], self._folder / name
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if (status.st_size, status.st_mtime_ns) == (known["bytes"], known["time_ns"]):
            return True
        member = zipfile.ZipInfo(name)
        member.file_size, member.CRC = known["bytes"], known["crc"]
        return self._compare(member)

    def _compare(self, member: zipfile.ZipInfo) -> bool:
        """Return whether the file of a member has its content; an unchanged file is read once."""
        path = self._folder / member.filename
        try:
            key = (member.filename, member.file_size, member.CRC, path.stat().st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if key not in self._compared:
            self._compared[key] = has_content(path, member)
        return self._compared[key]

    def _note_time(self, name: str) -> bool:
        """Note a new time of a file whose content was compared, so that later calls need not read it."""
        known, time_ns = self._members[name], (self._folder / name).stat().st_mtime_ns
        if time_ns != known["time_ns"]:
            known["time_ns"] = time_ns
            self._append({"name": name, **known})
        return True

    def _append(self, entry: dict[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _adopt(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if "md5" in entry:
                self._md5 = str(entry["md5"])
            elif "complete" in entry:
                self._num_complete = int(entry["complete"])
            else:
                numbers = {key: int(entry[key]) for key in ("bytes", "crc", "time_ns")}
                self._members[str(entry["name"])] = numbers
        # A damaged line costs reading its file again.
        except (ValueError, KeyError, TypeError):
            return


def members_of(path: Path, *, name: str) -> list[zipfile.ZipInfo]:
    """Return the members of an archive whose directory has arrived, in the order of unpacking.

    A series' ``.mhd`` comes after its ``.raw``: a series that is not complete cannot be read.

    Raises:
        zipfile.BadZipFile: If its directory is damaged.
        RefusedZipError: If a member must not be unpacked.
    """
    with open_zip(path) as archive:
        return sorted(files_in(archive, name), key=_order)


def unpack_archive(
    path: Path, folder: Path, journal: MemberJournal, *, name: str, md5: str, stop: threading.Event
) -> Unpacked:
    """Unpack the members that are not there; each is complete and flushed before it gets its name.

    Args:
        path: The archive; its MD5 was compared.
        folder: Folder that the members' names start from.
        journal: Journal of the members in it.
        name: Name of the archive, for messages.
        md5: MD5 of the archive.
        stop: Ends the unpacking when it is set; members that are complete are kept.

    Raises:
        zipfile.BadZipFile: If its directory is damaged.
        RefusedZipError: If a member must not be unpacked, or cannot be.
        OSError: If a file cannot be written; a full disk is ``ENOSPC`` with the path.
    """
    members = members_of(path, name=name)
    result = Unpacked()
    journal.start(md5)
    for parent in sorted({(folder / member.filename).parent for member in members}):
        # Left by a killed process; the caller's lock excludes a running one.
        sweep_temporary_files(parent, older_than_seconds=-1.0)
    missing = []
    for member in members:
        if journal.has(member):
            journal.add(member)
            result.num_present += 1
            result.num_bytes += member.file_size
        else:
            missing.append(member)
    require_methods(missing, name)
    with open_zip(path) as archive:
        for member in missing:
            if not _unpack_one(archive, member, folder, journal, result, stop):
                result.is_stopped = True
                return result
    journal.finish({member.filename for member in members})
    return result


def _unpack_one(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    folder: Path,
    journal: MemberJournal,
    result: Unpacked,
    stop: threading.Event,
) -> bool:
    if stop.is_set():
        return False
    stem = member.filename.rpartition(".")[0]
    if any(name.rpartition(".")[0] == stem for name in result.broken):
        # A header would make readable what other voxels of that name an earlier program left.
        result.left_out.append(member.filename)
        return True
    try:
        if not unpack(archive, member, folder / member.filename, stop):
            return False
    except BrokenMemberError as error:
        result.broken[member.filename] = str(error)
        return True
    journal.add(member)
    result.num_written += 1
    result.num_bytes += member.file_size
    return True


def _order(member: zipfile.ZipInfo) -> tuple[str, bool, str]:
    stem, _, suffix = member.filename.rpartition(".")
    return (stem, suffix.lower() == "mhd", member.filename)
