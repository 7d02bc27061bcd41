"""Files in S3: uploaded atomically, read whole or in ranges.

Credentials and endpoint come from AWS's environment variables (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``) or its configuration files.

Other modules call ``core.storage.files``, which accepts both kinds of path. A killed upload leaves no object, but the
server may keep its parts: give the bucket a rule that aborts incomplete multipart uploads.
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
"""Part size of large uploads; four parts are sent in parallel."""
TAIL_BYTES = 64 << 10
"""Bytes fetched first from the end of an object, where an npz has its directory and header."""
_CLAIM = ".claimed"
"""Object that represents an empty folder, which S3 does not have."""


class RemoteStoreError(OSError):
    """A request to S3 failed, or s3fs is missing."""


class FileStatus(NamedTuple):
    """Properties of a file that are known without reading it.

    Attributes:
        num_bytes: Size.
        version: Differs if the content differs; a valid file name.
        modified_seconds: Time of the last change, in seconds since 1970.
    """

    num_bytes: int
    version: str
    modified_seconds: float


def remote_path(address: str) -> "UPath":
    """Return ``s3://bucket/prefix`` as a path, without a request.

    Raises:
        ValueError: If it is another address.
    """
    from upath import UPath

    if not re.fullmatch(r"s3://[^/?#]+(/[^?#]*)?", address) or ".." in address.split("/"):
        msg = f"An address of objects must be s3://BUCKET/PREFIX, got {address}. Name a folder or such an address."
        raise ValueError(msg)
    return UPath(address)


def read_whole(path: "UPath") -> bytes:
    """Return the content of an object with one request.

    Raises:
        FileNotFoundError: If there is none.
    """
    with clear_errors(path):
        return bytes(_file_system(path).cat_file(path.path))


def upload(source: Path, path: "UPath") -> None:
    """Upload a file; an existing object stays until the upload is complete."""
    with clear_errors(path):
        _file_system(path).put_file(str(source), path.path, chunksize=PART_BYTES, max_concurrency=4)


def delete(path: "UPath") -> None:
    """Remove an object if it exists."""
    with clear_errors(path), contextlib.suppress(FileNotFoundError):
        _file_system(path).rm_file(path.path)


def status(path: "UPath") -> FileStatus:
    """Return size, version and time of an object.

    Raises:
        FileNotFoundError: If there is none.
    """
    with clear_errors(path):
        entry = _file_system(path).info(path.path)
        if entry["type"] != "file":
            raise FileNotFoundError(path.path)
        return _status_of(entry)


def _status_of(entry: dict[str, Any]) -> FileStatus:
    """Return the status from a response of S3."""
    # The ETag of a single object is in quotes, that of a listing is not; it may contain any character.
    identity = f"{entry['ETag'].strip(chr(34))} {entry['size']}"
    version = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return FileStatus(int(entry["size"]), version, entry["LastModified"].timestamp())


def objects_below(folder: "UPath") -> dict[str, FileStatus]:
    """Return all objects below an address by their relative names: one request per 1,000 objects."""
    start = f"{folder.path.rstrip('/')}/"
    with clear_errors(folder):
        found = _file_system(folder).find(start, detail=True)
    entries = {name: entry for name, entry in found.items() if entry["type"] == "file" and name.startswith(start)}
    return {name.removeprefix(start): _status_of(entry) for name, entry in sorted(entries.items())}


def make_folder(folder: "UPath") -> None:
    """Claim an address without objects below it.

    If two processes claim it at once, one fails, provided that the server supports conditional writes (AWS S3, MinIO
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
    """Remove the claim of an address without other objects below it."""
    if set(objects_below(folder)) == {_CLAIM}:
        delete(folder / _CLAIM)


def open_in_ranges(path: "UPath") -> BinaryIO:
    """Open an object for reading in ranges; its end is fetched at once.

    If the object is replaced meanwhile, reading fails.

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
    """Return the status of an object and its content of that version in blocks.

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
    """Convert errors of S3's libraries into ``RemoteStoreError`` with the path and advice.

    ``FileNotFoundError`` and ``FileExistsError`` stay what they are.
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
            msg = f"An object must be there to be read, got none ({path}). Make it again."
            raise FileNotFoundError(msg) from error
        if not isinstance(error, OSError) and not type(error).__module__.startswith(("botocore", "aiobotocore")):
            raise
        msg = (
            f"S3 must do what is asked of it, got {type(error).__name__}: {' '.join(str(error).split())} ({path}). "
            "Check bucket, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do."
        )
        raise RemoteStoreError(msg) from error


def _file_system(path: "UPath") -> Any:
    """Return the connection of this process: one that a parent process opened does not work after a fork."""
    import fsspec  # type: ignore[import-untyped]

    options = {**path.storage_options, "use_listings_cache": False}
    return fsspec.filesystem(path.protocol, **options)


def _code_of(error: BaseException) -> str:
    """Return the error code of S3, empty if it is another error."""
    response = getattr(error.__cause__ or error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
