"""Files of an upload on their way to a job: written under names of the service's own, zip files unpacked.

A name that a client gives decides the format and is then forgotten: it may be a patient's.
"""

import contextlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from luna_pipeline.core.storage.zip_limits import zip_problem
from luna_pipeline.core.storage.zip_members import BrokenMemberError, open_zip, unpack
from luna_pipeline.serving.config import UploadLimits
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.http.problems import Problem
from luna_pipeline.serving.http.zip_rules import ARCHIVE_HEADS, ARCHIVES, LOCAL_HEADER, MemberRules, ZipWatch, nested

VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
VOXELS = (".raw", ".zraw")
ZIP, DICOM, UNKNOWN, IGNORED = ".zip", ".dcm", "", "ignored"
_SUFFIXES = (*VOLUMES, *VOXELS, ZIP, DICOM)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A file of an upload.

    Attributes:
        path: Where it lies, under a number.
        suffix: Its format by the client's name, one of ``VOLUMES``, ``VOXELS``, ``ZIP`` or ``DICOM``; ``UNKNOWN`` for a
            name that says nothing, ``IGNORED`` for hidden files and lists of files.
    """

    path: Path
    suffix: str


class Staging:
    """Folder of one upload, and the files that were written to it so far. Not for several threads at a time."""

    def __init__(self, folders: ServiceFolders, limits: UploadLimits) -> None:
        self.folder = folders.new_staging()
        self._limits = limits
        self._files: list[StagedFile] = []
        self._file: BinaryIO | None = None
        self._watch: ZipWatch | None = None

    def begin(self, name: str) -> None:
        """Begin a file.

        Raises:
            Problem: If there are too many, it is a second zip file, or its format is an archive's other than zip.
        """
        suffix = suffix_of(name)
        # Limits of unpacked bytes are those of a zip file.
        if suffix == ZIP and any(file.suffix == ZIP for file in self._files):
            raise Problem(422, "An upload must have at most one zip file, got another. Zip the series into one file.")
        staged = self._new_file(suffix)
        self._file = staged.path.open("wb")
        self._watch = ZipWatch(self._limits) if staged.suffix == ZIP else None

    def write(self, block: bytes) -> None:
        """Write bytes of the file that was begun.

        Raises:
            Problem: If a member of a zip file is refused.
            OSError: If the disk is full.
        """
        assert self._file is not None
        if self._watch is not None:
            self._watch.feed(block)
        self._file.write(block)

    def end(self) -> None:
        """Flush the file to the disk."""
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def unpack_zip(self) -> list[StagedFile]:
        """Unpack and remove the zip file, if there is one; return all other files.

        Raises:
            Problem: If a zip file is damaged or a member is refused.
            OSError: If the disk is full.
        """
        for staged in [file for file in self._files if file.suffix == ZIP]:
            self._unpack(staged.path)
            staged.path.unlink()
        return [file for file in self._files if file.suffix != ZIP]

    def remove(self) -> None:
        """Remove the folder, if it is still there."""
        if self._file is not None:
            # On a full disk closing fails too, as it writes what is buffered.
            with contextlib.suppress(OSError):
                self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _new_file(self, suffix: str) -> StagedFile:
        if len(self._files) >= self._limits.max_files:
            rule = f"An upload must have at most {self._limits.max_files} files, got more."
            raise Problem(413, f"{rule} Send the files of one series.")
        staged = StagedFile(path=self.folder / f"{len(self._files) + 1:06}.part", suffix=suffix)
        self._files.append(staged)
        return staged

    def _unpack(self, path: Path) -> None:
        with path.open("rb") as file:
            limits = self._limits
            if file.read(4) != LOCAL_HEADER or zip_problem(
                file, max_member_bytes=limits.max_unpacked_bytes, max_members=limits.max_files
            ):
                rule = f"A zip file must be whole, with at most {limits.max_files} members of the lengths that it"
                raise Problem(422, f"{rule} announces, got another. Zip the series and send it again.")
            with open_zip(file) as archive:
                members = archive.infolist()
                rules = MemberRules(self._limits)
                for member in members:
                    rules.check(member)
                rules.check_ratio(path.stat().st_size)
                for number, member in enumerate(members, start=1):
                    self._unpack_member(archive, member, number)

    def _unpack_member(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, number: int) -> None:
        suffix = IGNORED if member.is_dir() else suffix_of(member.filename)
        if suffix == IGNORED:
            return
        staged = self._new_file(suffix)
        try:
            unpack(archive, member, staged.path)
        except BrokenMemberError:
            rule = f"Members of a zip file must be whole, got one that does not unpack (member {number})."
            raise Problem(422, f"{rule} Zip the series and send it again.") from None
        with staged.path.open("rb") as file:
            if file.read(8).startswith(ARCHIVE_HEADS):
                raise nested(number)


def suffix_of(name: str) -> str:
    """Return the format of a file by the client's name for it, see ``StagedFile``.

    Raises:
        Problem: If it is an archive other than zip.
    """
    parts = PurePosixPath(name.replace("\\", "/").lower()).parts
    last = parts[-1] if parts else ""
    if last.startswith(".") or "__macosx" in parts or last == "dicomdir":
        return IGNORED
    suffix = next((suffix for suffix in _SUFFIXES if last.endswith(suffix)), UNKNOWN)
    if suffix == UNKNOWN and last.endswith(ARCHIVES):
        raise Problem(415, "An archive must be a zip file, got another. Zip the series and send it again.")
    return suffix
