"""LUNA16's score over all listed scans and, beside it, over the scans that were searched.

Officially a listed scan without marks has no false positive. A scan that was never searched has none either, although
nothing is known about it. A submission that names the searched scans is scored twice: over all scans and over these.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luna_pipeline.core.candidates.uid_differences import describe_difference, shown_uid
from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.evaluation.froc_files import SCANS_HEADER, FrocTables, read_scans
from luna_pipeline.core.evaluation.official import FrocResult, evaluate_froc

DIAGNOSIS_FILE = "diagnosis.json"
SEARCHED_KEY = "searched_scans"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SearchedFroc:
    """Two results of one submission.

    Attributes:
        official: Result over all listed scans.
        searched: Result over the listed scans that were searched.
        not_searched: Distinct listed scans that were not searched, in list order.
    """

    official: FrocResult
    searched: FrocResult
    not_searched: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the official values, and as ``searched`` those over the searched scans, for JSON."""
        values = self.searched.to_dict()
        names = ("counts", "sens_at_points", "cpm", "froc", "bootstrap")
        return {
            **self.official.to_dict(),
            "searched": {
                "n_scans": self.official.samples.num_scans,
                "n_searched": self.searched.samples.num_scans,
                "not_searched": list(self.not_searched),
                **{name: values[name] for name in names},
            },
        }


def read_searched(path: Path) -> list[str]:
    """Return the series instance uids of the scans that were searched.

    Args:
        path: A list (``.csv`` or ``.csv.gz``) with the uid first in each row, with or without a header; the
            ``diagnosis.json`` of a diagnosis; or a folder, of which all such files are read.

    Raises:
        FileNotFoundError: If there is no such file, or none in the folder.
        ValueError: If a file cannot be read.
    """
    if path.is_dir():
        files = sorted(path.rglob(DIAGNOSIS_FILE))
        if not files:
            msg = f"A folder of searched scans must hold {DIAGNOSIS_FILE}, got none (in {path})."
            raise FileNotFoundError(f"{msg} Name the folder of finished diagnoses, or a list of scans.")
        return list(dict.fromkeys(uid for file in files for uid in _scans_of_diagnosis(file)))
    return _scans_of_diagnosis(path) if path.suffix == ".json" else read_scans(path, is_corrected=True)


def _scans_of_diagnosis(file: Path) -> list[str]:
    advice = "Diagnose the CT again, or give a list of scans."
    scans = read_json_object(file, "A diagnosis", advice=advice).get(SEARCHED_KEY)
    if not isinstance(scans, list) or not all(isinstance(uid, str) for uid in scans):
        msg = f"A diagnosis must list its {SEARCHED_KEY}, got {scans!s:.60} ({file})."
        raise ValueError(f"{msg} {advice}")
    return scans


def check_searched(tables: FrocTables, searched: Collection[str], *, refuses_unsearched: bool = False) -> list[str]:
    """Validate which scans were searched, and return warnings, one line each.

    Args:
        tables: Marks, nodules and scans.
        searched: Series instance uids of the scans that were searched.
        refuses_unsearched: Whether every listed scan must have been searched.

    Raises:
        ValueError: If no listed scan was searched, a scan that was not has marks, or ``refuses_unsearched`` and a
            listed scan was not searched.
    """
    wanted, listed = set(searched), [uid for uid in dict.fromkeys(tables.scans) if uid not in SCANS_HEADER]
    missing = [uid for uid in listed if uid not in wanted]
    unlisted = sorted(wanted - set(tables.scans))
    if len(missing) == len(listed):
        difference = describe_difference(unlisted, listed, of="in the list")
        msg = f"At least one listed scan must have been searched, got none ({len(wanted)} searched scans, {len(listed)}"
        raise ValueError(f"{msg} listed). {difference or 'Give the searched scans of this list.'}")
    marks = tables.marks["series_instance_uid"]
    if (is_odd := marks.isin(missing)).any():
        msg = f"Marks must lie in searched scans, got {int(is_odd.sum())} in others (the first in"
        raise ValueError(
            f"{msg} {shown_uid(str(marks[is_odd].iloc[0]))}). List all searched scans, or remove the marks."
        )
    if missing and refuses_unsearched:
        msg = f"Every listed scan must have been searched, got {len(missing)} of {len(listed)} that were not"
        raise ValueError(f"{msg} (the first is {shown_uid(missing[0])}). Search them, or score without this rule.")
    if not unlisted:
        return []
    difference = describe_difference(unlisted, listed, of="in the list")
    return [f"{len(unlisted)} searched scans are not listed, and ignored.{f' {difference}' if difference else ''}"]


def evaluate_searched(
    tables: FrocTables,
    searched: Collection[str],
    *,
    num_bootstraps: int = 0,
    seed: int = 0,
    is_corrected: bool = False,
) -> SearchedFroc:
    """Evaluate marks by LUNA16's rules over all scans, and over those that were searched.

    Args:
        tables: Marks, nodules, excluded findings and scans; check them with ``check_searched``.
        searched: Series instance uids of the scans that were searched.
        num_bootstraps: Number of draws of scans for intervals, each over its own scans; 0 for none.
        seed: Seed of the draws.
        is_corrected: Whether to correct the official script's quirks.

    Raises:
        ValueError: If no listed scan was searched.
    """
    wanted = set(searched)
    only_searched = replace(tables, scans=[uid for uid in tables.scans if uid in wanted])
    options = {"num_bootstraps": num_bootstraps, "seed": seed, "is_corrected": is_corrected}
    missing = (uid for uid in dict.fromkeys(tables.scans) if uid not in wanted and uid not in SCANS_HEADER)
    return SearchedFroc(
        official=evaluate_froc(tables, **options),  # type: ignore[arg-type]  # a dictionary of three kinds
        searched=evaluate_froc(only_searched, **options),  # type: ignore[arg-type]
        not_searched=tuple(missing),
    )
