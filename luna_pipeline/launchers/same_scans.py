"""Search of the same scans in an installation or below folders: signatures, suspected pairs, exact comparison.

Signatures and comparisons are kept by series, places and fingerprints of the CTs' files in ``LUNA_HOME/tables``
(``scan_signatures.parquet``, ``scan_comparisons.parquet``): an unchanged scan is never read twice, and an interrupted
search continues.
"""

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from luna_pipeline.core.config.checks import check_choice
from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.storage.table_files import read_table_file
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.same_scans.scan_files import ScanFile
    from luna_pipeline.core.same_scans.search import SuspectedPair
    from luna_pipeline.core.same_scans.signatures import ScanSignature

SEARCHES = ("auto", "always", "never")
"""When the asset searches: ``auto`` with several data sources, or where scans were searched before."""

_SIGNATURES, _COMPARISONS, _TABLE = "scan_signatures", "scan_comparisons", "same_scans"
_SECONDS_BETWEEN_WRITES = 30.0
_REPORT_EVERY = 20
_Report = Callable[[str], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class SameScans:
    """Result of a search.

    Attributes:
        table: The table ``same_scans``: a row per pair of the same scan.
        num_scans: Number of scans that were searched.
        num_read: Number of scans whose signature was not known.
        num_suspected: Number of pairs that were compared, now or earlier.
        failed: Reason by name of each scan that could not be read or compared.
    """

    table: "pd.DataFrame"
    num_scans: int
    num_read: int = 0
    num_suspected: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def stored(self) -> "pd.DataFrame":
        """The table with a row for each scan that failed: no leak check of it can be clean."""
        from luna_pipeline.core.same_scans.tables import with_not_compared

        return with_not_compared(self.table, self.failed)


def find_same_scans(
    settings: Settings, catalogue: "pd.DataFrame", *, workers: int = 2, report: _Report = lambda line: None
) -> SameScans:
    """Find the series of a catalogue that show the same scan.

    Args:
        settings: Paths of the installation.
        catalogue: The table ``ct_series``.
        workers: Processes, each with up to four CTs in memory.
        report: Receives lines of progress.
    """
    from luna_pipeline.core.same_scans.scan_files import scans_of_catalogue

    return _search(settings, scans_of_catalogue(catalogue, settings.data_dir), workers=workers, report=report)


def find_same_scans_below(
    settings: Settings, folders: Sequence[Path], *, workers: int = 2, report: _Report = lambda line: None
) -> SameScans:
    """Find the scans and blocks below folders that show the same scan; nothing is written but the kept signatures.

    Args:
        settings: Paths of the installation.
        folders: Folders with CTs of any format, ``.npz`` and ``.npy`` blocks.
        workers: Processes, each with up to four CTs in memory.
        report: Receives lines of progress.

    Raises:
        FileNotFoundError: If a folder holds no scan.
    """
    from luna_pipeline.core.same_scans.scan_files import scans_below

    scans: list[tuple[Path, ScanFile]] = []
    failed: dict[str, str] = {}
    # Folders above the current one have names that say what is below.
    for folder in map(Path.absolute, folders):
        found, reasons = scans_below(folder, patient_key=settings.patient_key())
        scans += [(folder, scan) for scan in found]
        failed |= {f"{folder.name}/{path}": reason for path, reason in reasons.items()}
    twice = {name for name, number in Counter(scan.name for _, scan in scans).items() if number > 1}
    # One series in two folders: the folder tells which is meant.
    named = [
        replace(scan, name=f"{scan.name} ({_place(scan, folder)})") if scan.name in twice else scan
        for folder, scan in scans
    ]
    # Not beside the installation's own: `auto` would take it for searched.
    kept = replace(settings, home=settings.cache_dir / "same_scans")
    result = _search(kept, named, workers=workers, report=report)
    return replace(result, failed={**failed, **result.failed})


def _place(scan: "ScanFile", folder: Path) -> str:
    """Return where a scan lies; files of LUNA25's blocks name patients."""
    from luna_pipeline.core.ct.formats.luna25_block import is_block

    if is_block(scan.path):
        return folder.as_posix()
    return f"{folder.name}/{scan.path.relative_to(folder).as_posix()}"


def is_search_due(settings: Settings, catalogue: "pd.DataFrame", search: str) -> bool:
    """Return whether the asset ``same_scans`` searches.

    Args:
        settings: Paths of the installation.
        catalogue: The table ``ct_series``; its column ``data_source`` is optional.
        search: One of ``SEARCHES``.

    Raises:
        ValueError: If it is none of them.
    """
    check_choice("search", search, SEARCHES)
    if search != "auto":
        return search == "always"
    num_sources = catalogue["data_source"].nunique() if "data_source" in catalogue else 1
    return bool(num_sources > 1) or exists(settings.tables_dir / f"{_SIGNATURES}.parquet")


def no_same_scans(catalogue: "pd.DataFrame") -> SameScans:
    """Return the result of a search that was not made."""
    from luna_pipeline.core.same_scans.tables import same_scans_table

    return SameScans(table=same_scans_table([]), num_scans=int(catalogue["is_readable"].sum()))


def read_same_scans(settings: Settings) -> "pd.DataFrame | None":
    """Return the table ``same_scans``, None if no search was made."""
    path = settings.tables_dir / f"{_TABLE}.parquet"
    if not exists(path):
        return None
    return read_table_file(path, advice="Remove it, and run `luna find_same_scans`.")


def write_same_scans(settings: Settings, table: "pd.DataFrame") -> None:
    """Write the table ``same_scans`` of the installation."""
    from luna_pipeline.core.storage.tables import write_table

    write_table(settings.tables_dir / f"{_TABLE}.parquet", table)


def _search(settings: Settings, scans: "Sequence[ScanFile]", *, workers: int, report: _Report) -> SameScans:
    from luna_pipeline.core.same_scans.search import suspected_pairs
    from luna_pipeline.core.same_scans.tables import same_scans_table

    signatures, num_read, failed = _signatures(settings, scans, workers, report)
    usable = [scan for scan in scans if scan.fingerprint in signatures]
    pairs = suspected_pairs([signatures[scan.fingerprint] for scan in usable])
    report(f"{len(pairs)} of {len(usable) * (len(usable) - 1) // 2} pairs of scans may be the same.")
    compared, not_compared = _comparisons(settings, usable, signatures, pairs, workers, report)
    ends = [(usable[pair.first], usable[pair.second]) for pair in pairs]
    found = [(*two, compared[key]) for two in ends if (key := _key(*two)) in compared]
    return SameScans(
        table=same_scans_table(found),
        num_scans=len(scans),
        num_read=num_read,
        num_suspected=len(pairs),
        failed={**failed, **not_compared},
    )


def _signatures(
    settings: Settings, scans: "Sequence[ScanFile]", workers: int, report: _Report
) -> "tuple[dict[str, ScanSignature], int, dict[str, str]]":
    """Return the signatures by fingerprint, how many scans were read, and the reasons of those that could not be."""
    from luna_pipeline.core.same_scans.jobs import SignatureJob
    from luna_pipeline.core.same_scans.signatures import signature_row, signatures_of_table, table_of_rows

    path = settings.tables_dir / f"{_SIGNATURES}.parquet"
    known = signatures_of_table(_kept(path))
    new = {scan.fingerprint: scan for scan in scans if scan.fingerprint not in known}
    of_name, failed = {scan.name: scan.fingerprint for scan in new.values()}, {}

    def keep() -> None:
        _write(path, table_of_rows(signature_row(key, signature) for key, signature in known.items()))

    with _saving(keep, is_needed=bool(new)) as save:
        jobs = [SignatureJob(scan) for scan in new.values()]
        for done, (name, result) in enumerate(_run(jobs, workers), start=1):
            if isinstance(result, str):
                failed[name] = result
            else:
                known[of_name[name]] = result
            if done % _REPORT_EVERY == 0 or done == len(jobs):
                report(f"Signatures: {done} of {len(jobs)} scans read.")
            save()
    return known, len(new), failed


def _comparisons(
    settings: Settings,
    scans: "Sequence[ScanFile]",
    signatures: "Mapping[str, ScanSignature]",
    pairs: "Sequence[SuspectedPair]",
    workers: int,
    report: _Report,
) -> tuple[dict[frozenset[str], dict[str, Any]], dict[str, str]]:
    """Return the comparison of each pair by its fingerprints, and the reasons of scans that could not be compared."""
    from luna_pipeline.core.same_scans.jobs import ComparisonJob
    from luna_pipeline.core.same_scans.tables import comparisons_of_table, comparisons_table

    path = settings.tables_dir / f"{_COMPARISONS}.parquet"
    known, failed = comparisons_of_table(_kept(path)), dict[str, str]()
    others: dict[int, dict[frozenset[str], Any]] = defaultdict(dict)
    planned: set[frozenset[str]] = set()
    for pair in pairs:
        key = _key(scans[pair.first], scans[pair.second])
        if key not in known and key not in planned:
            planned.add(key)
            second = scans[pair.second]
            others[pair.first][key] = (second, signatures[second.fingerprint], pair.num_anchors, pair.thumbnail_hu)
    jobs = [
        ComparisonJob((scans[at], signatures[scans[at].fingerprint]), list(found.values()))
        for at, found in others.items()
    ]
    with _saving(lambda: _write(path, comparisons_table(known.values())), is_needed=bool(jobs)) as save:
        for done, (name, result) in enumerate(_run(jobs, workers), start=1):
            rows, reasons = ([], {name: result}) if isinstance(result, str) else result
            failed |= reasons
            known |= {frozenset((row["fingerprint_a"], row["fingerprint_b"])): row for row in rows}
            if done % _REPORT_EVERY == 0 or done == len(jobs):
                report(f"Comparisons: {done} of {len(jobs)} scans compared with their suspects.")
            save()
    return known, failed


def _key(first: "ScanFile", second: "ScanFile") -> frozenset[str]:
    return frozenset((first.fingerprint, second.fingerprint))


def _run(jobs: Iterable[Any], workers: int) -> Iterator[tuple[str, Any]]:
    """Run jobs as cutouts are cut: a failed one does not stop the others."""
    from luna_pipeline.core.cutouts.workers import run_jobs

    jobs = list(jobs)
    # Starting a process takes as long as reading some scans.
    return run_jobs(cast("Iterable[Any]", jobs), workers=workers if len(jobs) >= _REPORT_EVERY else 1)


@contextlib.contextmanager
def _saving(write: Callable[[], None], *, is_needed: bool) -> Iterator[Callable[[], None]]:
    """Write what is known at the end, also after an interrupt, and every half minute at calls of what is yielded."""
    written = time.monotonic()

    def save() -> None:
        nonlocal written
        if time.monotonic() - written > _SECONDS_BETWEEN_WRITES:
            write()
            written = time.monotonic()

    try:
        yield save
    finally:
        if is_needed:
            write()


def _kept(path: Any) -> "pd.DataFrame | None":
    """Return a table of earlier searches, None where there is none or a damaged one: it only saves time.

    Raises:
        OSError: If it cannot be read now: it would be overwritten by what is made without it.
    """
    try:
        return read_table_file(path, advice="Remove it.")
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Any, table: "pd.DataFrame") -> None:
    from luna_pipeline.core.storage.tables import write_table

    write_table(path, table)
