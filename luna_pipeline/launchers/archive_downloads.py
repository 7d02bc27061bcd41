"""Download of LUNA16: archives by resumed, parallel ranges, each unpacked while the next one arrives."""

import contextlib
import hashlib
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.sources.archive_damage import find_damage, tail_chunks
from luna_pipeline.core.sources.luna16_archives import PublishedFile, archives_of
from luna_pipeline.core.sources.luna16_unpacking import MemberJournal, Unpacked, members_of, unpack_archive
from luna_pipeline.core.storage.chunked_file import ChunkedFile
from luna_pipeline.core.storage.http_ranges import USER_AGENT, RefusedError
from luna_pipeline.core.storage.limited_disks import locked
from luna_pipeline.core.storage.range_download import RangeDownload, StoppedError, is_disk_error
from luna_pipeline.core.storage.transfer_progress import TransferProgress
from luna_pipeline.core.storage.zip_members import RefusedZipError, require_methods
from luna_pipeline.launchers.download_request import (
    ArchiveResult,
    DownloadListener,
    DownloadRequest,
    DownloadSummary,
    NotEnoughDiskError,
)
from luna_pipeline.launchers.download_tables import download_tables

if TYPE_CHECKING:
    import httpx

STATE_FOLDER = ".luna16_download"
# Unpacked bytes for each packed one, where the directory has not arrived; LUNA16's is 1.8.
_UNPACKED_RATIO = 2.2
# An archive whose MD5 is wrong is repaired at most this often in one call.
_MAX_ROUNDS = 3


@dataclass
class _Job:
    """An archive in progress: incomplete (``file``) or complete (``place``)."""

    archive: PublishedFile
    journal: MemberJournal
    result: ArchiveResult
    file: ChunkedFile | None = None
    place: Path | None = None

    @property
    def name(self) -> str:
        return self.archive.name

    @property
    def num_left(self) -> int:
        return 0 if self.file is None else self.archive.num_bytes - self.file.num_received


class ArchiveDownloads:
    """One download of archives and tables into a folder."""

    def __init__(self, request: DownloadRequest, listener: DownloadListener) -> None:
        self._request, self._listener = request, listener
        self._state = request.folder / STATE_FOLDER
        self._stop = threading.Event()
        self._summary = DownloadSummary()
        self._progress: TransferProgress | None = None

    def run(self) -> DownloadSummary:
        """Download everything; see ``launchers.downloads.download_luna16``."""
        import httpx

        request = self._request
        archives = archives_of(request.subsets, request.editions) if request.subsets else []
        limits = httpx.Limits(max_connections=request.num_connections + 1)
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(
                httpx.Client(
                    timeout=httpx.Timeout(30.0, connect=20.0),
                    limits=limits,
                    follow_redirects=True,
                    headers={"User-Agent": USER_AGENT},
                )
            )
            # Last in, first out: the threads end before connections and locks are given up.
            jobs: list[_Job] = []
            for it in archives:
                self._guarded(it.name, lambda it=it: jobs.extend(self._job(it, stack)))  # type: ignore[misc]
            if request.has_tables:
                self._guarded("Tables", lambda: self._tables(client))
            jobs = [job for job in jobs if self._guarded(job.name, lambda job=job: self._peek(client, job))]  # type: ignore[misc]
            self._check_disk(jobs)
            self._run_jobs(client, jobs)
        return self._summary

    def _job(self, archive: PublishedFile, stack: contextlib.ExitStack) -> list[_Job]:
        """Return what is to be done for an archive: nothing if it is there or another process does it."""
        result = ArchiveResult(archive.name, archive.md5, archive.num_bytes)
        try:
            stack.enter_context(locked(self._state / f"{archive.name}.lock", waits=False))
        except BlockingIOError:
            self._fail(archive.name, f"One process may download an archive, got another one that does ({self._state}).")
            return []
        journal = MemberJournal(self._state / f"{archive.name}.members", self._request.folder)
        self._summary.archives[archive.name] = result
        is_to_keep = self._request.keeps_archives and self._verified(archive).exists()
        if journal.is_complete(archive.md5) and not is_to_keep:
            # Left by a process that was killed after the last member.
            self._remove(archive, "verified-*", "part.journal", "part")
            self._done(result, journal.totals())
            self._listener.report(f"{archive.name}: all {result.num_members} members are there.")
            return []
        job = _Job(archive, journal, result, place=self._complete_archive(archive))
        if job.place is None:
            path = self._state / f"{archive.name}.part"
            options = {"num_bytes": archive.num_bytes, "chunk_bytes": self._request.chunk_bytes}
            job.file = stack.enter_context(ChunkedFile(path, md5=archive.md5, **options))
        else:
            self._remove(archive, "part.journal", "part")
        return [job]

    def _remove(self, archive: PublishedFile, *kinds: str, needed: Path | None = None) -> None:
        """Remove files of an earlier call that are not needed any more."""
        for kind in kinds:
            for path in self._state.glob(f"{archive.name}.{kind}"):
                if path != needed:
                    path.unlink()

    def _complete_archive(self, archive: PublishedFile) -> Path | None:
        """Return the archive of an earlier call, or one that was put into the folder by hand."""
        verified = self._verified(archive)
        # Another edition's is of no use.
        self._remove(archive, "verified-*", needed=verified)
        if verified.exists():
            return verified
        by_hand = self._request.folder / archive.name
        if not by_hand.is_file():
            return None
        size = by_hand.stat().st_size
        if size == archive.num_bytes and _md5(by_hand) == archive.md5:
            return by_hand
        what = f"{size} bytes" if size != archive.num_bytes else "another MD5"
        self._listener.report(
            f"{archive.name} in the folder must have {archive.num_bytes} bytes and the MD5 {archive.md5}, got {what}: "
            "it is left alone, and the archive is downloaded."
        )
        return None

    def _verified(self, archive: PublishedFile) -> Path:
        """Return the path of a downloaded archive whose MD5 was right, until it is unpacked."""
        return self._state / f"{archive.name}.verified-{archive.md5}"

    def _tables(self, client: "httpx.Client") -> None:
        request = self._request
        with locked(self._state / "tables.lock", waits=True):
            written, failures = download_tables(
                client,
                request.base,
                request.folder,
                report=self._listener.report,
                policy=request.policy,
                stop=self._stop,
                is_other_edition=request.editions is not None,
            )
        self._summary.tables = written
        for line in failures:
            self._summary.failures.append(line)
            self._listener.report(line)

    def _peek(self, client: "httpx.Client", job: _Job) -> None:
        """Download an archive's end first: its directory states the bytes of the members and how they are packed.

        Its MD5 cannot be compared yet: an end that is refused arrives once more, and is never kept for the next call.
        """
        for is_last in (False, True):
            if job.file is not None:
                self._transfer(client, job).fetch(tail_chunks(job.file), may_stream=False)
            try:
                self._require_usable(job)
            except RefusedZipError:
                if job.file is None:
                    raise
                for chunk in tail_chunks(job.file):
                    job.file.restart(chunk)
                if is_last:
                    raise
            else:
                return

    def _require_usable(self, job: _Job) -> None:
        members = self._members(job)
        if members is not None and not self._request.keeps_archives:
            require_methods([it for it in members if not job.journal.has(it)], job.name)

    def _members(self, job: _Job) -> list[zipfile.ZipInfo] | None:
        """Return the members of an archive; None if its directory is not there or damaged, which its MD5 will show."""
        if job.file is not None and not all(map(job.file.is_complete, tail_chunks(job.file))):
            # The server ignores ranges.
            return None
        path = job.place if job.file is None else job.file.path
        try:
            return None if path is None else members_of(path, name=job.name)
        except zipfile.BadZipFile:
            return None

    def _check_disk(self, jobs: list[_Job]) -> None:
        left = [job.num_left for job in jobs]
        # Two archives at a time: one is unpacked and removed while the next one arrives.
        pairs = [sum(left[k : k + 2]) for k in range(len(left))]
        archives = sum(left) if self._request.keeps_archives else max(pairs, default=0)
        needed = archives + sum(self._unpacked_bytes(job) for job in jobs)
        free = shutil.disk_usage(self._request.folder).free if jobs else 0
        if needed > free:
            msg = f"Archives and their scans must fit on the disk, got {needed / 1e9:.3f} GB needed and"
            raise NotEnoughDiskError(
                f"{msg} {free / 1e9:.3f} GB free ({self._request.folder}). Make room or name fewer subsets."
            )
        total = sum(job.archive.num_bytes for job in jobs if job.file is not None)
        self._progress = TransferProgress(total, total - sum(left), on_progress=self._listener.on_progress)

    def _unpacked_bytes(self, job: _Job) -> int:
        members = self._members(job)
        if members is None:
            return int(_UNPACKED_RATIO * job.archive.num_bytes)
        return sum(it.file_size for it in members if not job.journal.has(it))

    def _run_jobs(self, client: "httpx.Client", jobs: list[_Job]) -> None:
        for number in range(_MAX_ROUNDS):
            is_last = number == _MAX_ROUNDS - 1
            with ThreadPoolExecutor(1, "unpack") as executor:
                try:
                    started: list[tuple[_Job, Future[bool]]] = []
                    for job in jobs:
                        if self._guarded(job.name, lambda job=job: self._download(client, job)):  # type: ignore[misc]
                            started.append((job, executor.submit(self._finish, job, is_last)))
                    jobs = [job for job, future in started if not future.result()]
                except BaseException:
                    self._stop.set()
                    raise
            if not jobs:
                return

    def _download(self, client: "httpx.Client", job: _Job) -> None:
        started = time.perf_counter()
        if job.file is not None:
            self._transfer(client, job).fetch()
        job.result.seconds += time.perf_counter() - started

    def _transfer(self, client: "httpx.Client", job: _Job) -> RangeDownload:
        def on_bytes(num_bytes: int) -> None:
            job.result.num_downloaded += num_bytes
            if self._progress is not None:
                self._progress.add(num_bytes)

        assert job.file is not None
        return RangeDownload(
            client,
            job.archive.address(self._request.base),
            job.file,
            report=self._listener.report,
            on_bytes=on_bytes,
            num_connections=self._request.num_connections,
            policy=self._request.policy,
            stop=self._stop,
        )

    def _finish(self, job: _Job, is_last: bool) -> bool:
        """Compare the MD5 and unpack; return False if chunks of the archive must be downloaded again."""
        started = time.perf_counter()
        is_whole = True

        def finish() -> None:
            nonlocal is_whole
            is_whole = job.file is None or self._verify(job, is_last)
            if is_whole:
                self._unpack(job)

        is_done = self._guarded(job.name, finish)
        job.result.seconds += time.perf_counter() - started
        return is_whole or not is_done

    def _verify(self, job: _Job, is_last: bool) -> bool:
        assert job.file is not None
        found = job.file.md5_of_bytes(self._stop)
        if self._stop.is_set():
            raise StoppedError
        if found == job.archive.md5:
            job.place = self._verified(job.archive)
            job.file.move_to(job.place)
            job.file = None
            return True
        damage = find_damage(job.file)
        discarded = sum(job.file.received(chunk) for chunk in damage.chunks)
        for chunk in damage.chunks:
            job.file.restart(chunk)
        if self._progress is not None:
            self._progress.add(-discarded)
        line = f"MD5 must be {job.archive.md5}, got {found}: {damage.reason}; {discarded} bytes are discarded"
        if is_last:
            raise RefusedError(f"{line}. The server's file is not the published one. Check --from, or try later.")
        self._listener.report(f"{job.name}: {line} and downloaded again")
        return False

    def _unpack(self, job: _Job) -> None:
        assert job.place is not None
        folder, name = self._request.folder, job.name
        if self._request.keeps_archives:
            self._keep(job)
        unpacked = unpack_archive(job.place, folder, job.journal, name=name, md5=job.archive.md5, stop=self._stop)
        self._done(job.result, unpacked)
        if unpacked.is_stopped:
            raise StoppedError
        if unpacked.broken:
            raise RefusedZipError(_broken(unpacked, job))
        if job.place.parent == self._state:
            job.place.unlink()
        self._listener.report(
            f"{name}: {job.result.num_members} members, {job.result.num_written} of them unpacked now, are usable "
            f"({job.result.num_unpacked_bytes / 1e9:.3f} GB, {job.result.seconds:.0f} s)."
        )

    def _keep(self, job: _Job) -> None:
        """Move an archive to the top of the folder, also one that only another program can unpack."""
        target = self._request.folder / job.name
        if job.place is None or job.place == target:
            return
        if target.exists():
            msg = f"A kept archive must not replace a file, got one of its name ({target})."
            raise ValueError(f"{msg} Move it away and run the command again; nothing is downloaded twice.")
        job.place.replace(target)
        job.place = target

    @staticmethod
    def _done(result: ArchiveResult, unpacked: Unpacked) -> None:
        result.num_members = unpacked.num_present + unpacked.num_written
        result.num_written += unpacked.num_written
        result.num_unpacked_bytes = unpacked.num_bytes

    def _guarded(self, name: str, work: Callable[[], object]) -> bool:
        """Call ``work``; a fault becomes a line, and a full disk ends the whole download."""
        try:
            work()
        except StoppedError:
            self._fail(name, "stopped; what arrived is kept.")
        except RefusedError as error:
            self._fail(name, str(error))
        except OSError as error:
            if is_disk_error(error):
                self._stop.set()
            self._fail(
                name,
                f"Files must be written, got {error}. Make room, or let {self._request.folder} be written; "
                "the next call continues from here.",
            )
        except (ValueError, zipfile.BadZipFile, EOFError) as error:
            self._fail(name, " ".join(str(error).split()) or type(error).__name__)
        else:
            return True
        return False

    def _fail(self, name: str, reason: str) -> None:
        line = reason if reason.startswith(name) else f"{name}: {reason}"
        self._summary.failures.append(line)
        self._listener.report(line)


def _broken(unpacked: Unpacked, job: _Job) -> str:
    named = ", ".join(f"{name} ({reason})" for name, reason in list(unpacked.broken.items())[:5])
    msg = (
        f"Every member must unpack, got {len(unpacked.broken)} that do not although the archive's MD5 is right: {named}"
    )
    return (
        f"{msg}. {unpacked.num_present + unpacked.num_written} others are in the folder. It is an older edition of the "
        f"archive: take record {job.archive.record} of Zenodo, with the published checksums (without --checksums)."
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
