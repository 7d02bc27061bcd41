"""Request, reports and results of a download of LUNA16."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from luna_pipeline.core.sources.luna16_archives import ZENODO, PublishedFile
from luna_pipeline.core.storage.http_ranges import RetryPolicy
from luna_pipeline.core.storage.transfer_progress import Progress


class DownloadListener(Protocol):
    """Receives the progress, from several threads."""

    def report(self, line: str) -> None:
        """Show a line: a fault, or an archive that is done."""

    def on_progress(self, progress: Progress) -> None:
        """Show how much has arrived, and how many seconds are left."""


@dataclass(frozen=True, kw_only=True)
class DownloadRequest:
    """What to download, and how.

    Attributes:
        folder: Data root: folders ``subset0`` and so on, and tables at its top.
        subsets: Numbers of subsets; empty for the tables only.
        base: Address of a server with Zenodo's interface.
        editions: Sizes and MD5 of other archives than the published ones; None for those.
        keeps_archives: Whether an archive stays in the folder after its members were unpacked.
        has_tables: Whether the tables are downloaded too.
        num_connections: Requests at the same time.
        chunk_bytes: Bytes of a request.
        policy: Repetition of failed requests.
    """

    folder: Path
    subsets: tuple[int, ...]
    base: str = ZENODO
    editions: Mapping[str, PublishedFile] | None = None
    keeps_archives: bool = False
    has_tables: bool = True
    num_connections: int = 4
    chunk_bytes: int = 16 << 20
    policy: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass
class ArchiveResult:
    """What became of an archive.

    Attributes:
        name: Name of the archive.
        md5: MD5 that it had to have.
        num_bytes: Its size.
        num_downloaded: Bytes of it that arrived in this call.
        num_members: Members that are in the folder and right.
        num_written: Members that were unpacked in this call.
        num_unpacked_bytes: Bytes of the members.
        seconds: Time of its download, comparison and unpacking.
    """

    name: str
    md5: str
    num_bytes: int
    num_downloaded: int = 0
    num_members: int = 0
    num_written: int = 0
    num_unpacked_bytes: int = 0
    seconds: float = 0.0


@dataclass
class DownloadSummary:
    """Results by name of the archive, tables that were written, and a line for each failure."""

    archives: dict[str, ArchiveResult] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class NotEnoughDiskError(OSError):
    """More bytes are needed than free."""
