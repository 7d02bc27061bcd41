"""How far AUC and average precision would move if other scans had been taken.

Whole scans are drawn again, since candidates of one scan have a patient, a scanner and often a nodule in common.
DeLong's interval of the AUC takes each candidate for independent of the others: here it would be too narrow.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luna_pipeline.core.evaluation.resampling import MIN_SCANS, RankedSamples, percentile_interval, scan_draws

Counts = NDArray[np.int64]


def ranking_intervals(
    labels: ArrayLike, scores: ArrayLike, scans: ArrayLike, *, num_bootstraps: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the 95 % intervals of AUC and average precision over draws of scans.

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Finite scores of class 1 (N,).
        scans: What each sample's scan is called (N,). The same names give the same draws, whatever their order.
        num_bootstraps: Draws; 0 gives no interval.
        seed: Of the draws.

    Returns:
        Lower and upper bound of ``auc`` and of ``average_precision``. Draws that do not define a value (no sample of a
        class) are left out of its interval; nan where none is left, and with fewer than two scans.

    Source:
        Efron and Tibshirani, An introduction to the bootstrap, 1993, percentile intervals; DeLong et al., Comparing
        the areas under two or more correlated receiver operating characteristic curves, Biometrics 44 (1988) 837-845.
    """
    draws = ranking_draws(labels, scores, scans, num_bootstraps=num_bootstraps, seed=seed)
    return {name: percentile_interval(values) for name, values in draws.items()}


def ranking_draws(
    labels: ArrayLike, scores: ArrayLike, scans: ArrayLike, *, num_bootstraps: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return AUC and average precision in each draw of scans, see `ranking_intervals`.

    Returns:
        ``auc`` and ``average_precision``, each (B,); nan where a draw does not define it, and in all of them with fewer
        than two scans. Two models of the same samples are compared draw by draw.
    """
    names, places = np.unique(np.asarray(scans), return_inverse=True)
    ranked = RankedSamples.of(scores, np.asarray(labels) == 1, places)
    values = np.full((num_bootstraps, 2), np.nan)
    is_enough = len(names) >= MIN_SCANS
    draws = scan_draws(len(names), num_bootstraps=num_bootstraps, seed=seed) if is_enough else ()
    for place, draw in enumerate(draws):
        counts = ranked.counts(draw)
        values[place] = auc_of(*counts), average_precision_of(*counts)
    return {"auc": values[:, 0], "average_precision": values[:, 1]}


def auc_of(positives: Counts, negatives: Counts) -> float:
    """Return the area under the ROC curve of running counts; nan where a class is missing.

    Args:
        positives: Positives with at least each distinct score (G,), from the highest one down.
        negatives: Negatives with at least that score (G,).
    """
    if len(positives) == 0 or positives[-1] == 0 or negatives[-1] == 0:
        return float("nan")
    # The curve begins where nothing is found; of equal scores half is in the right order, so that it is no step.
    area = np.trapezoid(np.append(0, positives), np.append(0, negatives))
    return float(area / (float(positives[-1]) * float(negatives[-1])))


def average_precision_of(positives: Counts, negatives: Counts) -> float:
    """Return the mean precision over the positives, each at its own score; nan where there is none.

    Args:
        positives: Positives with at least each distinct score (G,), from the highest one down.
        negatives: Negatives with at least that score (G,).
    """
    if len(positives) == 0 or positives[-1] == 0:
        return float("nan")
    found = np.diff(positives, prepend=0)
    # Where no sample of the scores so far was drawn there is no precision, and none is found.
    precision = positives / np.maximum(positives + negatives, 1)
    return float(found @ precision / positives[-1])
