"""Download of LUNA16 for the command line and Dagster."""

from collections.abc import Callable
from pathlib import Path

from luna_pipeline.core.sources.luna16_archives import read_checksums
from luna_pipeline.core.storage.transfer_progress import Progress
from luna_pipeline.launchers.archive_downloads import ArchiveDownloads
from luna_pipeline.launchers.download_request import (
    ArchiveResult,
    DownloadListener,
    DownloadRequest,
    DownloadSummary,
)
from luna_pipeline.settings import Settings

_LINE_EVERY_BYTES = 256 << 20


def download_luna16(request: DownloadRequest, listener: DownloadListener) -> DownloadSummary:
    """Download and unpack subsets of LUNA16 and its tables; what an earlier call left is used.

    An archive that fails does not stop the others; a full disk does. Nothing gets its final name before its checksum
    was compared: MD5 for an archive, CRC-32 for a member.

    Raises:
        ValueError: If a subset is unknown.
        NotEnoughDiskError: If archives and members do not fit on the disk; only the archives' ends were downloaded.
    """
    return ArchiveDownloads(request, listener).run()


def luna16_folder(settings: Settings) -> Path:
    """Return LUNA16's folder: the data root, or ``luna16`` in it where the root holds folders of sources."""
    # Lazily: it loads pandas, and Dagster's definitions load this module.
    from luna_pipeline.core.sources.located import folder_for

    return folder_for(settings.data_dir, "luna16", settings.sources)


def download_partition(
    settings: Settings,
    key: str,
    *,
    base: str,
    checksums: str | None,
    keeps_archives: bool,
    has_tables: bool,
    num_connections: int,
    report: Callable[[str], object],
) -> ArchiveResult:
    """Download and unpack one subset of LUNA16, and its tables.

    Args:
        settings: Paths of the installation.
        key: Partition, such as ``subset3``.
        base: Address of a server with Zenodo's interface.
        checksums: File of another edition's checksums; None for the published ones.
        keeps_archives: Whether the archive stays in the folder.
        has_tables: Whether the tables that are missing are downloaded too.
        num_connections: Requests at the same time.
        report: Called with each line.

    Raises:
        RuntimeError: If the subset or a table did not arrive; its lines were reported.
        NotEnoughDiskError: If it does not fit on the disk.
    """
    request = DownloadRequest(
        folder=luna16_folder(settings),
        subsets=(int(key.removeprefix("subset")),),
        base=base,
        editions=read_checksums(Path(checksums)) if checksums else None,
        keeps_archives=keeps_archives,
        has_tables=has_tables,
        num_connections=num_connections,
    )
    summary = download_luna16(request, _Lines(report))
    if summary.failures:
        msg = f"The subset and its tables must arrive, got {len(summary.failures)} failures: {summary.failures[0]}"
        raise RuntimeError(f"{msg} | Materialize it again: it continues where this one ended.")
    return summary.archives[f"{key}.zip"]


class _Lines:
    """Reports the progress as a line for each 256 MiB."""

    def __init__(self, report: Callable[[str], object]) -> None:
        self._report = report
        self._next = 0

    def report(self, line: str) -> None:
        self._report(line)

    def on_progress(self, progress: Progress) -> None:
        if progress.done_bytes >= self._next:
            self._next = progress.done_bytes + _LINE_EVERY_BYTES
            self._report(progress.as_line())
