"""Cutouts and their index from a data root, without Dagster: the work of its jobs ``ingest`` and ``cut``."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from luna_pipeline.core.cutouts.cutting import CUTTING_CODE_VERSION, CuttingParameters
from luna_pipeline.core.cutouts.selection import CandidateSelection
from luna_pipeline.core.cutouts.up_to_date import UpToDateMarker
from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.storage.table_files import read_table_file
from luna_pipeline.launchers.installation import cutout_store
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.cutouts.job import CutOutcome
    from luna_pipeline.core.cutouts.service import CtCutoutService, CutSummary
    from luna_pipeline.core.cutouts.store import CutoutSource
    from luna_pipeline.core.cutouts.workers import RunJobs

TABLES_CODE_VERSION = "2"
"""Increased by hand when the same data root gives other tables: ids, matching, folds, rules of the catalogue."""

_TABLES = ("ct_series", "candidates", "rejected", "reader_nodules", "folds", "cutout_index")


@dataclass(frozen=True)
class CuttingRequest:
    """Cutting parameters and selection of candidates; equal requests on equal data give equal files."""

    parameters: CuttingParameters = field(default_factory=CuttingParameters)
    selection: CandidateSelection = field(default_factory=CandidateSelection)

    def marker(self, settings: Settings) -> UpToDateMarker:
        """Return the marker by which a later run sees that nothing has changed."""
        return UpToDateMarker(
            data_root=settings.data_dir,
            cutouts=settings.cutouts_dir,
            tables=[settings.tables_dir / f"{name}.parquet" for name in _TABLES],
            request={
                "parameters": self.parameters.as_dict(),
                "selection": asdict(self.selection),
                "sources": list(settings.sources),
                "malignancy_policy": settings.malignancy_policy,
                "code": [CUTTING_CODE_VERSION, TABLES_CODE_VERSION],
            },
        )


class CuttingListener(Protocol):
    """Receives the progress of the work."""

    def report(self, line: str) -> None:
        """Show a line."""

    def on_plan(self, plan: "pd.DataFrame", needed_bytes: int, free_bytes: float) -> None:
        """Show the plan, before the work starts."""

    def on_outcome(self, outcome: "CutOutcome") -> None:
        """Show that a series is done."""

    def on_failure(self, series_instance_uid: str, reason: str) -> None:
        """Show that a series failed."""


def create_cutouts(
    settings: Settings,
    request: CuttingRequest | None = None,
    listener: CuttingListener | None = None,
    *,
    workers: int | None = None,
    run: "RunJobs | None" = None,
    is_synced: bool = True,
    is_index_only: bool = False,
) -> "CutSummary | None":
    """Catalogue the CTs, join the tables, cut missing and changed cutouts, and index them.

    Args:
        settings: Paths of the installation.
        request: What to cut and how; None for a cutout of the default shape around every candidate.
        listener: Receives the progress; None discards it.
        workers: Processes that cut; None for one on this machine, or all CPUs of Ray.
        run: Runs the jobs, such as ``cluster.cutting.run_jobs_on_ray``; None for processes of this machine.
        is_synced: Whether to flush each file to the disk.
        is_index_only: Whether to write no files: the index is for cutting ``on_the_fly``. Each CT is hashed once.

    Returns:
        What was cut and what failed; None if everything was up to date.

    Raises:
        FileNotFoundError: If there are no CTs or tables.
        NotEnoughDiskError: If the cutouts do not fit on the disk; nothing is cut.
        ValueError: If no candidate is left, and nothing is cut; if a cutout is in two folds, and nothing is indexed.
    """
    request = request or CuttingRequest()
    report: Callable[[str], Any] = str if listener is None else listener.report
    marker = request.marker(settings)
    if not is_index_only and marker.holds():
        return None
    # Imported after this check, which takes less time than loading pandas and SimpleITK.
    from luna_pipeline.core.cutouts.service import CtCutoutService

    stat_digest = marker.stat_digest()
    marker.discard()
    catalogue, candidates, folds = make_tables(settings, report)
    service = CtCutoutService(
        data_root=settings.data_dir,
        catalogue=catalogue,
        candidates=_selected(request.selection, candidates, report),
        store=cutout_store(settings, is_synced=is_synced),
        parameters=request.parameters,
    )
    if is_index_only:
        return _indexed_on_the_fly(settings, service, folds)
    listeners = {name: getattr(listener, name, None) for name in ("on_plan", "on_outcome", "on_failure")}
    summary = service.cut_many(workers=workers, run=run, **listeners)
    left_out = _write_index(settings, service, folds, service.store)
    # The reasons of the failed ones were reported.
    for uid in left_out.keys() - summary.failed.keys():
        report(f"Not in the index: {left_out[uid]}")
    # Another run may have written with other parameters at the same time: mark only what is current.
    files = marker.files()
    if not summary.failed and (service.plan()["state"] == "current").all():
        marker.write(stat_digest, files)
    return summary


def _selected(
    selection: CandidateSelection, candidates: "pd.DataFrame", report: Callable[[str], Any]
) -> "pd.DataFrame":
    from luna_pipeline.core.cutouts.index import describe_sample

    selected = selection.of(candidates)
    if selected.empty:
        msg = f"One candidate or more must be selected, got none of {len(candidates)} ({asdict(selection)})."
        raise ValueError(f"{msg} Allow more negatives or a longer sample.")
    if sample := describe_sample(selected, candidates):
        report(f"Warning: {sample}")
    return selected


def catalogue_of(settings: Settings, sources: Sequence[str] = ()) -> "tuple[pd.DataFrame, int]":
    """Return the catalogue of the data root, and how many rows of the last one were reused.

    Headers in unchanged folders are not read again.

    Args:
        settings: Paths of the installation.
        sources: Data sources by name; empty for those of the settings or of the data root.
    """
    from luna_pipeline.core.ct.catalogue_cache import num_rows_kept, read_kept_catalogue
    from luna_pipeline.core.sources.combined import catalogue_of_sources
    from luna_pipeline.launchers.data_sources import sources_of

    kept = read_kept_catalogue(settings.tables_dir / "ct_series.parquet")
    located, patient_key = sources_of(settings, sources), settings.patient_key()
    catalogue = catalogue_of_sources(located, data_root=settings.data_dir, patient_key=patient_key, kept=kept)
    return catalogue, num_rows_kept(catalogue, kept)


def make_tables(settings: Settings, report: Callable[[str], Any]) -> "tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]":
    """Write and return the catalogue, candidate table and folds of the data root.

    Raises:
        ValueError: If no row of the tables belongs to a readable CT; nothing is written.
    """
    from luna_pipeline.core.ct.catalogue import describe_notes
    from luna_pipeline.core.sources.combined import left_out_rows
    from luna_pipeline.core.storage.tables import write_table
    from luna_pipeline.launchers.data_sources import candidate_tables
    from luna_pipeline.launchers.same_scans import find_same_scans, is_search_due, write_same_scans

    catalogue, _ = catalogue_of(settings)
    left_out, lines = left_out_rows(catalogue)
    for row in left_out.itertuples():
        report(f"Left out {row.path}: {row.reason}")
    for line in describe_notes(catalogue):
        report(line)
    if is_search_due(settings, catalogue, "auto"):
        same_scans = find_same_scans(settings, catalogue, report=report)
        write_same_scans(settings, same_scans.stored)
        lines += [f"Warning: Not compared: {name}: {reason}" for name, reason in same_scans.failed.items()]
    made = candidate_tables(settings, catalogue, report)
    tables = made.tables
    report(f"{tables.counts['kept']} candidates and annotations, {tables.counts['rejected']} rows rejected.")
    folds, notes = _folds_of(settings, catalogue)
    for line in (*lines, *tables.notes, *tables.policies, *notes):
        report(line)
    tables.require_rows()
    written = {
        "ct_series": catalogue,
        "candidates": tables.candidates,
        "rejected": tables.rejected,
        "reader_nodules": made.readers,
        "folds": folds,
    }
    for name, table in written.items():
        write_table(settings.tables_dir / f"{name}.parquet", table)
    return catalogue, tables.candidates, folds


def _folds_of(settings: Settings, catalogue: "pd.DataFrame") -> "tuple[pd.DataFrame, list[str]]":
    """Return the existing folds, which models were trained on, if they cover all series; else new ones; and notes."""
    from luna_pipeline.core.candidates.folds import check_folds, with_patients
    from luna_pipeline.launchers.data_sources import describe_fold_table, fold_table

    path = settings.tables_dir / "folds.parquet"
    if exists(path):
        folds = read_table_file(path, advice="Remove it: folds are assigned again; models were trained on it.")
        if set(catalogue.loc[catalogue["is_readable"], "series_instance_uid"]) <= set(folds["series_instance_uid"]):
            folds = with_patients(folds, catalogue)
            parted = [f"Warning: {line} Remove {path.name} to assign folds again." for line in check_folds(folds)]
            return folds, [*describe_fold_table(settings, catalogue, folds), *parted]
    folds = fold_table(settings, catalogue)
    return folds, describe_fold_table(settings, catalogue, folds)


def _indexed_on_the_fly(settings: Settings, service: "CtCutoutService", folds: "pd.DataFrame") -> "CutSummary":
    """Index all series as they would be cut; those that cannot be cut on the fly are the failed ones."""
    from luna_pipeline.core.cutouts.on_the_fly import UncutSeries
    from luna_pipeline.core.cutouts.service import CutSummary

    failed = _write_index(settings, service, folds, UncutSeries(service))
    return CutSummary(current=[uid for uid in service.uids if uid not in failed], failed=failed)


def _write_index(
    settings: Settings, service: "CtCutoutService", folds: "pd.DataFrame", source: "CutoutSource"
) -> dict[str, str]:
    """Index the series with matching files; return the reasons for the others.

    Raises:
        ValueError: If a cutout is in two folds; nothing is written.
    """
    from luna_pipeline.core.cutouts.index import PARAMETERS, build_cutout_index
    from luna_pipeline.core.evaluation.duplicates import describe_duplicates, same_content_in_two_folds
    from luna_pipeline.core.storage.tables import write_table

    left_out: dict[str, str] = {}
    index = build_cutout_index(service.candidates, folds, source, left_out=left_out)
    if msg := describe_duplicates(same_content_in_two_folds(index, source)):
        raise ValueError(msg)
    index.attrs[PARAMETERS] = asdict(service.parameters)
    write_table(settings.tables_dir / "cutout_index.parquet", index)
    return left_out
