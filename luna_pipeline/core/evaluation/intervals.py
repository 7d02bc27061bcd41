"""Bootstrap intervals of AUC and average precision over scans.

Whole scans are drawn, because the candidates of one scan share a patient, a scanner and often a nodule. DeLong's
interval assumes independent candidates and would be too narrow.
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
        scans: Name of each sample's scan (N,). The same names give the same draws in any order.
        num_bootstraps: Number of draws; 0 gives nan.
        seed: Seed of the draws.

    Returns:
        Lower and upper bound of ``auc`` and of ``average_precision``. Draws with an undefined value (a class is
        missing) are skipped; nan if none is left, and with fewer than two scans.

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
        ``auc`` and ``average_precision``, each (B,), for paired comparisons of models; nan where undefined, and
        everywhere with fewer than two scans.
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
    """Return the area under the ROC curve; nan where a class is missing.

    Args:
        positives: Number of positives with at least each distinct score (G,), by decreasing score.
        negatives: Number of negatives with at least that score (G,).
    """
    if len(positives) == 0 or positives[-1] == 0 or negatives[-1] == 0:
        return float("nan")
    # The curve starts at (0, 0). Trapezoids count half of each tie as correctly ordered.
    area = np.trapezoid(np.append(0, positives), np.append(0, negatives))
    return float(area / (float(positives[-1]) * float(negatives[-1])))


def average_precision_of(positives: Counts, negatives: Counts) -> float:
    """Return the mean of the precisions at the scores of the positives; nan without positives.

    Arguments as in ``auc_of``.
    """
    if len(positives) == 0 or positives[-1] == 0:
        return float("nan")
    found = np.diff(positives, prepend=0)
    # At scores above the first drawn sample, nothing is found and any precision will do.
    precision = positives / np.maximum(positives + negatives, 1)
    return float(found @ precision / positives[-1])
