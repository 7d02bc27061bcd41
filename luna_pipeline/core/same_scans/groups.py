"""Groups of series that show the same scan: what folds must hold together, and what leaks between them."""

from collections.abc import Iterable, Mapping

import pandas as pd

from luna_pipeline.core.same_scans.pairs import KIND_WORDS


def groups_of(same_scans: pd.DataFrame | None) -> Mapping[str, str]:
    """Return the group of each series that is in the table; a series that is not has no same scan.

    Two blocks of one scan are in one group, also where they do not overlap.

    Args:
        same_scans: Columns ``series_a``, ``series_b``; None for no table.

    Returns:
        The smallest uid of its group by uid.
    """
    leader: dict[str, str] = {}

    def found(uid: str) -> str:
        while leader.setdefault(uid, uid) != uid:
            leader[uid] = leader[leader[uid]]
            uid = leader[uid]
        return uid

    for first, second in _pairs(same_scans):
        one, other = sorted((found(first), found(second)))
        leader[other] = one
    return {uid: found(uid) for uid in sorted(leader)}


def same_scans_across(
    same_scans: pd.DataFrame | None, seen: Iterable[str], tested: Iterable[str]
) -> list[tuple[str, str, str]]:
    """Return tested series that show the same scan as a series that was seen.

    Args:
        same_scans: Table of ``find_same_scans``; None for no table.
        seen: Series of training.
        tested: Series of the test data; a series that is in both is not returned.

    Returns:
        Tested series, seen series and what the first is to the second, sorted by the first: one for each tested series,
        a direct pair where there is one.
    """
    if same_scans is None or same_scans.empty:
        return []
    groups, seen, tested = groups_of(same_scans), set(seen), set(tested)
    words = _words(same_scans)
    members: dict[str, list[str]] = {}
    for uid in sorted(seen & groups.keys()):
        members.setdefault(groups[uid], []).append(uid)
    found = []
    for uid in sorted((tested - seen) & groups.keys()):
        if others := members.get(groups[uid]):
            other = next((one for one in others if (uid, one) in words), others[0])
            found.append((uid, other, words.get((uid, other), "of the same scan as")))
    return found


def not_compared(same_scans: pd.DataFrame | None, series: Iterable[str]) -> set[str]:
    """Return those of some series that the search could not read or compare.

    Args:
        same_scans: Table of ``find_same_scans``; None for no table.
        series: Series uids.
    """
    if same_scans is None:
        return set()
    return set(series) & set(same_scans.loc[same_scans["series_b"] == "", "series_a"])


def same_scans_in_two_folds(same_scans: pd.DataFrame | None, folds: pd.DataFrame) -> list[str]:
    """Return a line for each group of same scans that lies in two folds.

    Args:
        same_scans: Table of ``find_same_scans``; None for no table.
        folds: Columns series_instance_uid, fold.
    """
    groups = groups_of(same_scans)
    placed = folds[folds["series_instance_uid"].isin(groups)]
    lines = []
    for _, rows in placed.groupby(placed["series_instance_uid"].map(groups)):
        numbers = sorted({int(fold) for fold in rows["fold"]})
        if len(numbers) > 1:
            uids = sorted(rows["series_instance_uid"].astype(str))
            named = ", ".join(uids[:2]) + (f" and {len(uids) - 2} more" if len(uids) > 2 else "")
            lines.append(f"The same scan must be in one fold, got {numbers} ({named}).")
    return lines


def _pairs(same_scans: pd.DataFrame | None) -> list[tuple[str, str]]:
    if same_scans is None:
        return []
    same_scans = _compared(same_scans)
    return list(zip(same_scans["series_a"].astype(str), same_scans["series_b"].astype(str), strict=True))


def _compared(same_scans: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are pairs."""
    return same_scans[same_scans["series_b"] != ""]


def _words(same_scans: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return what the first series of a pair is to the second, for both orders."""
    words = {}
    for (first, second), kind in zip(_pairs(same_scans), _compared(same_scans)["kind"], strict=True):
        word = KIND_WORDS.get(str(kind), "of the same scan as")
        words[first, second] = word
        words[second, first] = "the scan of the block" if word == "a block of" else word
    return words
