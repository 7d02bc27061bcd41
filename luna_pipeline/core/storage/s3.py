"""Files in S3: written by one upload that shows at its end, read whole or in ranges, listed in one request.

Credentials and the server's address are those of AWS's own environment: ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``, or its configuration files.

``core.storage.files`` is what others call: it takes paths of either kind. An upload that was killed leaves nothing
that can be seen, but a server may keep its parts: give the bucket a rule that aborts incomplete multipart uploads.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

if TYPE_CHECKING:
    from upath import UPath

PART_BYTES = 16 << 20
"""Size of the pieces in which large files travel; four are on their way at once."""
TAIL_BYTES = 64 << 10
"""Read at once from the end of a file that is read in ranges: where an npz has its directory and header."""
_CLAIM = ".claimed"
"""Object that stands for a folder that was made: S3 itself has none."""


class RemoteStoreError(OSError):
    """A request that S3 refused or did not answer, or that could not be made."""


class FileStatus(NamedTuple):
    """What is known of a file without reading it.

    Attributes:
        num_bytes: Its size.
        version: Differs when the content does, and is fit to be a file's name.
        modified_seconds: When it was written, in seconds since 1970.
    """

    num_bytes: int
    version: str
    modified_seconds: float


def remote_path(address: str) -> "UPath":
    """Return ``s3://bucket/prefix`` as a path; nothing is asked of the server.

    Raises:
        ValueError: If it is another address.
    """
    from upath import UPath

    if not re.fullmatch(r"s3://[^/?#]+(/[^?#]*)?", address) or ".." in address.split("/"):
        msg = f"An address of objects must be s3://BUCKET/PREFIX, got {address}. Name a folder or such an address."
        raise ValueError(msg)
    return UPath(address)


def read_whole(path: "UPath") -> bytes:
    """Return the content of an object, by one request.

    Raises:
        FileNotFoundError: If there is none.
    """
    with clear_errors(path):
        return bytes(_file_system(path).cat_file(path.path))


def upload(source: Path, path: "UPath") -> None:
    """Make an object of a file; until the upload is done the older object stays, or none."""
    with clear_errors(path):
        _file_system(path).put_file(str(source), path.path, chunksize=PART_BYTES, max_concurrency=4)


def delete(path: "UPath") -> None:
    """Remove an object, if there is one."""
    with clear_errors(path), contextlib.suppress(FileNotFoundError):
        _file_system(path).rm_file(path.path)


def status(path: "UPath") -> FileStatus:
    """Ask what an object is.

    Raises:
        FileNotFoundError: If there is none.
    """
    with clear_errors(path):
        entry = _file_system(path).info(path.path)
        if entry["type"] != "file":
            raise FileNotFoundError(path.path)
        return _status_of(entry)


def _status_of(entry: dict[str, Any]) -> FileStatus:
    """Return what S3 answered about an object, alike for a single one and for one in a list."""
    # The ETag stands in quotes in one answer and without in the other, and may hold any character.
    identity = f"{entry['ETag'].strip(chr(34))} {entry['size']}"
    version = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return FileStatus(int(entry["size"]), version, entry["LastModified"].timestamp())


def objects_below(folder: "UPath") -> dict[str, FileStatus]:
    """Return all objects below an address by their names relative to it: one request a thousand."""
    start = f"{folder.path.rstrip('/')}/"
    with clear_errors(folder):
        found = _file_system(folder).find(start, detail=True)
    entries = {name: entry for name, entry in found.items() if entry["type"] == "file" and name.startswith(start)}
    return {name.removeprefix(start): _status_of(entry) for name, entry in sorted(entries.items())}


def make_folder(folder: "UPath") -> None:
    """Claim an address below which there is nothing yet.

    Of two that claim it at the same moment one is refused, where the server knows conditional writes (AWS S3, MinIO
    and SeaweedFS do).

    Raises:
        FileExistsError: If there is something below it.
    """
    taken = FileExistsError(f"An address must be free to be claimed, got objects below {folder}. Choose another.")
    if objects_below(folder):
        raise taken
    with clear_errors(folder):
        try:
            _file_system(folder).pipe_file(f"{folder.path}/{_CLAIM}", b"", mode="create")
        except OSError as error:
            if _code_of(error) in {"PreconditionFailed", "ConditionalRequestConflict"}:
                raise taken from error
            raise


def remove_empty_folder(folder: "UPath") -> None:
    """Give back a claimed address, unless something lies below it."""
    if set(objects_below(folder)) == {_CLAIM}:
        delete(folder / _CLAIM)


def open_in_ranges(path: "UPath") -> BinaryIO:
    """Open an object for reading here and there; its end is read at once.

    What is read is one version of the object: if it is replaced meanwhile, reading fails.

    Raises:
        FileNotFoundError: If there is none.
    """
    with clear_errors(path):
        file = _file_system(path).open(path.path, "rb", block_size=TAIL_BYTES, cache_type="readahead")
        file.seek(-min(file.size, TAIL_BYTES), io.SEEK_END)
        file.read()
        file.seek(0)
    file.name = str(path)
    return cast(BinaryIO, file)


def object_in_blocks(path: "UPath") -> tuple[FileStatus, Iterator[bytes]]:
    """Return what an object is, and its content piece by piece, all of that version.

    Raises:
        FileNotFoundError: If there is none.
    """
    with clear_errors(path):
        file = _file_system(path).open(path.path, "rb", cache_type="none")
    return _status_of(file.details), _blocks(file, path)


def _blocks(file: Any, path: "UPath") -> Iterator[bytes]:
    for _ in range(0, file.size, PART_BYTES):
        with clear_errors(path):
            block = file.read(PART_BYTES)
        yield block


@contextlib.contextmanager
def clear_errors(path: "UPath") -> Iterator[None]:
    """Say of failed requests what was asked for and what can be done.

    Raises:
        RemoteStoreError: Instead of whatever S3's libraries raise, but for FileNotFoundError and FileExistsError.
    """
    try:
        yield
    except FileExistsError:
        raise
    except ImportError as error:
        msg = f"s3fs must be installed where files lie in S3, got {error} ({path}). Run pip install luna-pipeline[s3]."
        raise RemoteStoreError(msg) from error
    except Exception as error:
        if isinstance(error, FileNotFoundError) and _code_of(error) != "NoSuchBucket":
            msg = f"An object must be there to be read, got none ({path})."
            raise FileNotFoundError(msg) from error
        if not isinstance(error, OSError) and not type(error).__module__.startswith(("botocore", "aiobotocore")):
            raise
        msg = (
            f"S3 must do what is asked of it, got {type(error).__name__}: {' '.join(str(error).split())} ({path}). "
            "Check bucket, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do."
        )
        raise RemoteStoreError(msg) from error


def _file_system(path: "UPath") -> Any:
    """Look up the connection of this process: one that a parent process opened is of no use after a fork."""
    import fsspec  # type: ignore[import-untyped]

    options = {**path.storage_options, "use_listings_cache": False}
    return fsspec.filesystem(path.protocol, **options)


def _code_of(error: BaseException) -> str:
    """Return the name that S3 gives an error, where it is one of S3's."""
    response = getattr(error.__cause__ or error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
