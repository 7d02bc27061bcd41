"""The data sources of an installation: their catalogue, tables and folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.storage.table_files import read_table_file
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.candidates.tables import CandidateTables
    from luna_pipeline.core.sources.located import LocatedSource


@dataclass(frozen=True, eq=False)
class MadeTables:
    """Tables of stage 2.

    Attributes:
        tables: Candidates, rejected rows, counts and notes.
        readers: One row per reader and nodule, ``READER_COLUMNS``; empty without readers.
    """

    tables: "CandidateTables"
    readers: "pd.DataFrame"


def sources_of(settings: Settings, names: Sequence[str] = ()) -> "list[LocatedSource]":
    """Return the sources of the data root: those named, else those of LUNA_SOURCE, else those that lie there.

    Raises:
        ValueError: If a name is unknown or given twice.
        FileNotFoundError: If one of several sources has no folder.
    """
    from luna_pipeline.core.sources.located import locate_sources
    from luna_pipeline.extensions import load_extensions

    load_extensions()
    return locate_sources(settings.data_dir, names or settings.sources)


def catalogued_sources(settings: Settings, catalogue: "pd.DataFrame | None" = None) -> "list[LocatedSource]":
    """Return the sources of a catalogue, by default the stored one; of an older catalogue those of the settings."""
    path = settings.tables_dir / "ct_series.parquet"
    if catalogue is None and exists(path):
        catalogue = read_table_file(path, advice="Materialize `ct_series` again.")
    if catalogue is None or "data_source" not in catalogue:
        return sources_of(settings)
    return sources_of(settings, [str(name) for name in catalogue["data_source"].astype("category").cat.categories])


def tables_root(settings: Settings) -> Path:
    """Return the folder of the tables in LUNA16's form: the data's own, else those made from the sources' tables.

    Raises:
        FileNotFoundError: If they were made on another machine: they are on the disk of the machine that made them.
    """
    located = catalogued_sources(settings)
    if _is_in_luna16_form(located):
        return located[0].root
    if not settings.source_tables_dir.is_dir() and exists(settings.tables_dir / "candidates.parquet"):
        msg = f"Tables in LUNA16's form must be on this machine, got no folder {settings.source_tables_dir}."
        raise FileNotFoundError(f"{msg} Materialize `candidates` here, or run `luna create_cutouts`.")
    return settings.source_tables_dir


def candidate_tables(settings: Settings, catalogue: "pd.DataFrame", report: Callable[[str], Any]) -> MadeTables:
    """Make the tables of stage 2 from the tables of the sources.

    Where they are not in LUNA16's form, they are written in this form to ``LUNA_HOME/source_tables`` first: official
    scores read them there.

    Args:
        settings: Paths of the installation.
        catalogue: As from ``catalogue_of_sources``.
        report: Receives lines of progress.

    Raises:
        FileNotFoundError: If a source lacks a table.
        ValueError: If a table is malformed.
    """
    from luna_pipeline.core.candidates.tables import build_candidates
    from luna_pipeline.core.sources.combined import combined_tables, own_folds
    from luna_pipeline.core.sources.luna16_form import luna16_form, write_luna16_form
    from luna_pipeline.launchers.proposals import propose_candidates

    located, notes = catalogued_sources(settings, catalogue), list[str]()
    if _is_in_luna16_form(located):
        readers = located[0].source.readers(located[0].root, catalogue)
        return MadeTables(
            build_candidates(located[0].root, catalogue, malignancy_policy=settings.malignancy_policy),
            _reader_table(readers),
        )

    def propose(rows: "pd.DataFrame") -> "pd.DataFrame":
        proposed, lines = propose_candidates(settings, rows, report)
        notes.extend(lines)
        return proposed

    found = combined_tables(located, catalogue, propose=propose)
    write_luna16_form(settings.source_tables_dir, luna16_form(found, own_folds(located, catalogue)))
    made = build_candidates(settings.source_tables_dir, catalogue, malignancy_policy=settings.malignancy_policy)
    return MadeTables(made.with_source(found.rejected, (*notes, *found.notes)), _reader_table(found.readers))


def fold_table(settings: Settings, catalogue: "pd.DataFrame", *, num_folds: int = 10, seed: int = 0) -> "pd.DataFrame":
    """Assign a fold to each series: patients, and scans that are found twice by content, are not parted.

    Args:
        settings: Paths of the installation.
        catalogue: As from ``catalogue_of_sources``.
        num_folds: As for ``assign_folds``.
        seed: As for ``assign_folds``.

    Returns:
        As from ``assign_folds``.
    """
    from luna_pipeline.core.candidates.folds import assign_folds
    from luna_pipeline.core.same_scans.groups import groups_of
    from luna_pipeline.core.sources.combined import own_folds
    from luna_pipeline.launchers.same_scans import read_same_scans

    own = own_folds(catalogued_sources(settings, catalogue), catalogue)
    links = groups_of(read_same_scans(settings))
    return assign_folds(catalogue, own=own, links=links, num_folds=num_folds, seed=seed)


def describe_fold_table(settings: Settings, catalogue: "pd.DataFrame", folds: "pd.DataFrame") -> list[str]:
    """Return lines about folds: subsets of other series, one patient id for many series, a scan in two folds."""
    from luna_pipeline.core.candidates.folds import describe_folds, describe_subset_table
    from luna_pipeline.core.same_scans.groups import same_scans_in_two_folds
    from luna_pipeline.launchers.same_scans import read_same_scans

    located = catalogued_sources(settings, catalogue)
    roots = [it.root for it in located if it.source.is_in_luna16_form]
    of_subsets = [line for root in roots for line in describe_subset_table(folds, root)]
    parted = [f"Warning: {line}" for line in same_scans_in_two_folds(read_same_scans(settings), folds)]
    return [*of_subsets, *describe_folds(folds), *parted]


def outdated_tables(settings: Settings) -> str | None:
    """Return why the tables must be made again although no file changed: other sources or another policy; else None."""
    candidates = read_table(settings, "candidates", columns=["candidate_id"])
    policy = candidates.attrs.get("malignancy_policy")
    if policy is not None and policy != settings.malignancy_policy:
        return f"the malignancy policy is {settings.malignancy_policy}, and was {policy}"
    now, then = ([it.name for it in located] for located in (sources_of(settings), catalogued_sources(settings)))
    return None if now == then else f"the data sources are {', '.join(now)}, and were {', '.join(then)}"


def describe_sources(located: "Sequence[LocatedSource]") -> list[str]:
    """Return for each source its licence, citation and traps, a line each."""
    lines = []
    for it in located:
        card = it.source.card
        lines += [f"{card.title}: {card.licence}. Cite: {card.citation}.", *(f"  {trap}" for trap in card.traps)]
    return lines


def _is_in_luna16_form(located: "Sequence[LocatedSource]") -> bool:
    return len(located) == 1 and located[0].source.is_in_luna16_form


def _reader_table(readers: "pd.DataFrame | None") -> "pd.DataFrame":
    """Return readers with the types of their columns; no rows without readers."""
    import pandas as pd

    from luna_pipeline.core.sources.source import RATINGS, READER_COLUMNS

    table = pd.DataFrame(columns=list(READER_COLUMNS)) if readers is None else readers[list(READER_COLUMNS)]
    numbers = [name for name in READER_COLUMNS if name.endswith(("_mm", "_mm3"))]
    types = {"series_instance_uid": "object", "nodule": "int64", "reader": "int64"}
    return table.astype(types | dict.fromkeys(numbers, "float64") | dict.fromkeys(RATINGS, "Int8"))
