"""Store of cutout files, one .npz per series: written atomically, readable by NumPy alone, memory-mapped.

Members, in this order: ``ct_chunks`` int16 (N, *chunk_shape_irc) in HU, ``center_irc`` int32 (N, 3),
``center_xyz`` float64 (N, 3) in mm, ``candidate_id`` int64 (N,), ``header`` JSON as uint8. No labels: a new
label does not require cutting again.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import failure_of
from luna_pipeline.core.cutouts.aligned_npz import (
    DamagedCutoutsError,
    first_damage,
    locate_members,
    map_members,
    read_array,
    read_json,
    write_aligned_npz,
)
from luna_pipeline.core.cutouts.chunks import CtChunks
from luna_pipeline.core.cutouts.fingerprint import Fingerprint
from luna_pipeline.core.cutouts.series_cutouts import (
    ARRAYS,
    CutoutSource,
    SeriesCutouts,
    build_header,
    header_problem,
)
from luna_pipeline.core.cutouts.stored_zip import Member
from luna_pipeline.core.cutouts.verified_files import VerifiedFiles
from luna_pipeline.core.storage.cache import LocalCopies
from luna_pipeline.core.storage.files import (
    AnyPath,
    is_name,
    is_remote,
    listing,
    opened,
    read_bytes,
    remove,
    status_of,
    sweep_temporary_files,
    write_bytes,
    written_atomically,
)
from luna_pipeline.core.storage.regular_files import NotRegularFileError, is_regular, kind_of, shown_name
from luna_pipeline.core.storage.s3 import FileStatus, RemoteStoreError

__all__ = ["CutoutSource", "CutoutStore", "CutoutWriteError", "DamagedCutoutsError", "SeriesCutouts", "build_header"]

_KNOWN_FOLDER = ".ct_contents"
_MEMBERS = (*ARRAYS, "header")


class CutoutWriteError(OSError):
    """A cutout file could not be written: full disk, missing permission, read-only folder."""


@dataclass(frozen=True)
class CutoutStore:
    """A folder of cutout files; several processes may write to it at the same time.

    Attributes:
        root: The folder, on a disk or in S3; created by the first write.
        copies: Local copies of files in S3, which cannot be mapped; not needed on a disk.
        is_synced: Whether to flush each file to the disk before it gets its name. Without, writing is faster, and a
            power cut (not a killed process) may lose or damage files; ``check`` finds damaged ones.
        verified: Files whose bytes have been compared with their checksums: ``read`` compares each file once. None
            reads without it.
    """

    root: AnyPath
    copies: LocalCopies | None = None
    is_synced: bool = True
    verified: VerifiedFiles | None = field(default_factory=VerifiedFiles, compare=False)

    @property
    def origin(self) -> str:
        """The folder, or its address."""
        return str(self.root)

    def path(self, series_instance_uid: str) -> AnyPath:
        """Return the path of the file of a series.

        Raises:
            ValueError: If the uid is not a valid file name.
        """
        if not is_name(series_instance_uid):
            msg = f"A series_instance_uid must be letters, digits, '.', '-', '_', got {series_instance_uid!r}."
            raise ValueError(f"{msg} Check the CT's header or the file's name.")
        return self.root / f"{series_instance_uid}.npz"

    def write(
        self,
        series_instance_uid: str,
        cutouts: SeriesCutouts,
        *,
        final_header: Callable[[], dict[str, Any]] | None = None,
    ) -> int:
        """Write the file of a series atomically and return its number of bytes.

        Args:
            series_instance_uid: The series.
            cutouts: Its cutouts.
            final_header: Returns the header after all chunks are written; its JSON must be as long as that of
                ``cutouts.header``. None: ``cutouts.header`` is written.

        Raises:
            ValueError: If the header is of another series.
            CutoutWriteError: If the disk is full or the folder not writable; an existing file is kept.
        """
        path = self.path(series_instance_uid)
        if cutouts.header.get("series_instance_uid") != series_instance_uid:
            msg = f"Cutouts must be of their file's series, got {cutouts.header.get('series_instance_uid')!r}"
            raise ValueError(f"{msg} (series {series_instance_uid}). Build the header for this series.")
        header = _Header(cutouts.header, final_header or (lambda: cutouts.header))
        arrays = {name: _contiguous(getattr(cutouts, name)) for name in ARRAYS}
        try:
            with written_atomically(path, is_synced=self.is_synced) as file:
                return write_aligned_npz(file, {**arrays, "header": header})
        except OSError as error:
            msg = (
                f"Cutouts must be written whole, got {error.strerror or error} (series "
                f"{series_instance_uid}, folder {self.root}). Make room or make the folder writable, and cut "
                "again: what is done stays."
            )
            failure = CutoutWriteError(msg)
            failure.errno = error.errno
            raise failure from error

    def read(self, series_instance_uid: str) -> SeriesCutouts:
        """Return the cutouts of a series; ``ct_chunks`` is a read-only memory map of the file.

        Raises:
            FileNotFoundError: If the series was not cut.
            DamagedCutoutsError: If the file is damaged or of another series.
        """
        with self._opened(series_instance_uid, is_mapped=True) as file:
            members, header = self._described(file, series_instance_uid)
            status = os.fstat(file.fileno())
            if self.verified is not None and not self.verified.has(status):
                _check_bytes(file, members)
                self.verified.add(status)
            return _read(file, members, header)

    def header(self, series_instance_uid: str) -> dict[str, Any]:
        """Return the header of a file; the chunks are not read. Raises the errors of ``read``."""
        with self._opened(series_instance_uid) as file:
            return self._described(file, series_instance_uid)[1]

    def identity(self, series_instance_uid: str) -> tuple[NDArray[np.int64], str]:
        """Return the candidates of a series, int64 (N,) in the order of the rows, and its fingerprint's digest.

        The chunks are not read; of a file in S3 only the end is fetched. Raises the errors of ``read``.
        """
        with self._opened(series_instance_uid) as file:
            members, header = self._described(file, series_instance_uid)
            candidate_id = read_array(file, members["candidate_id"], np.dtype(np.int64))
        return candidate_id, str(header["fingerprints"]["digest"])

    def digest(self, series_instance_uid: str) -> str | None:
        """Return the fingerprint's digest of a series, None where its file is absent or damaged."""
        try:
            return str(self.header(series_instance_uid)["fingerprints"]["digest"])
        except (FileNotFoundError, DamagedCutoutsError):
            return None

    def record_ct_content(self, series_instance_uid: str, fingerprint: Fingerprint) -> None:
        """Record the content digest of a CT for its files' current names, sizes and times.

        A CT that was only touched is then neither cut again nor hashed again.
        """
        known = {"ct": fingerprint.ct, "ct_content": fingerprint.ct_content}
        write_bytes(self._known_path(series_instance_uid), json.dumps(known).encode())

    def kept_ct_content(self, series_instance_uid: str, ct: str) -> str | None:
        """Return the recorded content digest of a CT whose files have the digest ``ct``, None if there is none."""
        try:
            known = json.loads(read_bytes(self._known_path(series_instance_uid)))
        except (FileNotFoundError, NotADirectoryError, NotRegularFileError, ValueError, RecursionError):
            return None
        return known.get("ct_content") if isinstance(known, dict) and known.get("ct") == ct else None

    def _known_path(self, series_instance_uid: str) -> AnyPath:
        return self.root / _KNOWN_FOLDER / f"{self.path(series_instance_uid).stem}.json"

    def remove(self, series_instance_uid: str) -> None:
        """Remove the file and record of a series, if they exist."""
        remove(self.path(series_instance_uid))
        remove(self._known_path(series_instance_uid))

    def check(self, series_instance_uid: str) -> str | None:
        """Read the whole file and return why it is damaged or missing, None if it is intact.

        In S3 the object is read, not an existing local copy.
        """
        if not is_remote(self.root):
            return self._damage(series_instance_uid)
        with tempfile.TemporaryDirectory() as folder:
            return replace(self, copies=LocalCopies(Path(folder)))._damage(series_instance_uid)

    def _damage(self, series_instance_uid: str) -> str | None:
        try:
            with self._opened(series_instance_uid, is_mapped=True) as file:
                members, header = self._described(file, series_instance_uid)
                _read(file, members, header)
                _check_bytes(file, members)
        except RemoteStoreError:
            raise
        except (OSError, DamagedCutoutsError) as error:
            return failure_of(error, series_instance_uid)
        return None

    def num_bytes(self, series_instance_uid: str) -> int:
        """Return the size of the file of a series, 0 if there is none."""
        try:
            return status_of(self.path(series_instance_uid)).num_bytes
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def uids(self) -> list[str]:
        """Return the uids of all files, sorted."""
        return sorted(name.removesuffix(".npz") for name in self.listing())

    def listing(self) -> dict[str, FileStatus]:
        """Return size, version and time of each cutout file by name, without opening it."""
        found = listing(self.root)
        # Other files in the folder or below it are ignored.
        return {name: found[name] for name in found if name.endswith(".npz") and is_name(name.removesuffix(".npz"))}

    def odd_entries(self) -> dict[str, str]:
        """Return the reason by name of each entry of the folder that ends in .npz and is no cutout file.

        Its name is not a uid, or it is a folder, a FIFO, a link that leads nowhere. Objects in S3 are all files.
        """
        if not isinstance(self.root, Path) or not self.root.is_dir():
            return {}
        found = {}
        for path in sorted(self.root.iterdir()):
            if path.suffix.lower() != ".npz" or path.name.startswith("."):
                continue
            name, kind = shown_name(path), kind_of(path)
            if not is_name(path.stem) or path.suffix != ".npz":
                rule = "A file of cutouts must be named <series_instance_uid>.npz"
                found[path.name] = f"{rule}, got {name} ({self.root}). Rename it, or take it out of the folder."
            elif not is_regular(path):
                rule = "A file of cutouts must be a regular file"
                found[path.name] = f"{rule}, got {kind} ({self.root / name}). Take it out of the folder."
        return found

    def sweep(self, *, older_than_seconds: float = 3600.0) -> list[Path]:
        """Remove temporary files of killed writers; see ``sweep_temporary_files``."""
        return sweep_temporary_files(self.root, older_than_seconds=older_than_seconds)

    def _opened(self, series_instance_uid: str, *, is_mapped: bool = False) -> BinaryIO:
        """Open a file once for everything that is read: another process may replace it."""
        path = self.path(series_instance_uid)
        try:
            return self.copies.opened(path) if is_mapped and self.copies is not None else opened(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            msg = f"A series must be cut before it is read, got no file (series {series_instance_uid},"
            advice = "Run `luna create_cutouts` or the job `cut`, or choose cutouts `on_the_fly`."
            raise FileNotFoundError(f"{msg} folder {self.root}). {advice}") from error

    def _described(self, file: BinaryIO, series_instance_uid: str) -> tuple[dict[str, Member], dict[str, Any]]:
        members = locate_members(file, _MEMBERS)
        header = read_json(file, members["header"])
        if problem := header_problem(header, series_instance_uid):
            msg = f"A file of cutouts must {problem} ({file.name}). Cut the series again."
            raise DamagedCutoutsError(msg)
        return members, header


class _Header:
    """The header as bytes that are computed when they are written, after the chunks."""

    dtype = np.dtype(np.uint8)

    def __init__(self, first: dict[str, Any], final: Callable[[], dict[str, Any]]) -> None:
        self._final = final
        self.shape = (len(_as_bytes(first)),)

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        yield np.frombuffer(_as_bytes(self._final()), dtype=np.uint8)


def _as_bytes(header: dict[str, Any]) -> bytes:
    return json.dumps(header, allow_nan=False).encode()


def _contiguous(array: NDArray[Any] | CtChunks) -> NDArray[Any] | CtChunks:
    return array if isinstance(array, CtChunks) else np.ascontiguousarray(array)


def _check_bytes(file: BinaryIO, members: dict[str, Member]) -> None:
    """Raise DamagedCutoutsError if a byte of the file is not as written."""
    if found := first_damage(file, members):
        msg = f"A file of cutouts must be as written, got {found} ({file.name}). Cut the series again."
        raise DamagedCutoutsError(msg)


def _read(file: BinaryIO, members: dict[str, Member], header: dict[str, Any]) -> SeriesCutouts:
    row_shapes = {"ct_chunks": tuple(header["chunk_shape_irc"]), "candidate_id": ()}
    rows = {name: np.dtype((dtype, row_shapes.get(name, (3,)))) for name, dtype in ARRAYS.items()}
    mapped = map_members(file, members, rows)
    small = {name: mapped[name].copy() for name in ARRAYS if name != "ct_chunks"}
    try:
        return SeriesCutouts(ct_chunks=mapped["ct_chunks"], header=header, **small)
    except ValueError as error:
        raise DamagedCutoutsError(f"{error} ({file.name})") from error
