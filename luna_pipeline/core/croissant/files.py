"""Files that a description names: relative to its folder, with size and SHA-256."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from luna_pipeline.core.storage.files import sha256_of, write_bytes

MANIFEST_COLUMNS = ("series_instance_uid", "file", "num_bytes", "sha256")


@dataclass(frozen=True, kw_only=True)
class DescribedFile:
    """A file of a description.

    Attributes:
        name: Its name in the description.
        path: Path relative to the description's folder.
        encoding: Media type.
        num_bytes: Size.
        sha256: Digest of its content.
        description: What it holds.
    """

    name: str
    path: str
    encoding: str
    num_bytes: int
    sha256: str
    description: str


def described_file(folder: Path, path: Path, *, encoding: str, description: str) -> DescribedFile:
    """Return a file below a folder with its size and digest.

    Raises:
        OSError: If it cannot be read.
    """
    return DescribedFile(
        name=path.name,
        path=path.relative_to(folder).as_posix(),
        encoding=encoding,
        num_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        description=description,
    )


def write_manifest(path: Path, files: Mapping[str, Path]) -> pd.DataFrame:
    """Write the table of the cutout files with their digests: a description has no digest for each file of a set.

    Args:
        path: The CSV file, in the folder that the files lie below.
        files: Cutout file by series.

    Returns:
        ``MANIFEST_COLUMNS``, sorted by series.
    """
    rows: Iterable[tuple[str, str, int, str]] = (
        (uid, file.relative_to(path.parent).as_posix(), file.stat().st_size, sha256_of(file))
        for uid, file in sorted(files.items())
    )
    table = pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))
    write_bytes(path, table.to_csv(index=False, lineterminator="\n").encode())
    return table


def changed_files(manifest: Path) -> list[str]:
    """Return the files of a manifest that are gone or have other bytes, sorted."""
    table = pd.read_csv(manifest, dtype=str)
    pairs = zip(table["file"], table["sha256"], strict=True)
    return sorted(
        name
        for name, digest in pairs
        if not (manifest.parent / name).is_file() or sha256_of(manifest.parent / name) != digest
    )
