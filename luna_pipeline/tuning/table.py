"""Results of a study: the table of its trials, the winner, and the importance of each searched value."""

import json
import warnings
from collections.abc import Mapping
from typing import Any

import pandas as pd

from luna_pipeline.tuning.records import FAILED, TrialEnd, TrialProgress
from luna_pipeline.tuning.space import Changes, Choices, Domain, changes_from_plain
from luna_pipeline.tuning.study import StudyConfig, Variant

TIME_COLUMNS = ("seconds",)
STUDY_COLUMNS = [
    *("trial", "rank", "state", "score", "cpm", "auc", "best_epoch", "num_epochs"),
    *("num_restarts", "changes", "error", *TIME_COLUMNS),
]
# With fewer trials importances are random.
MIN_TRIALS = 4
NUM_TREES = 64


def study_table(
    study: StudyConfig, progress: Mapping[int, TrialProgress], ended: Mapping[int, TrialEnd]
) -> pd.DataFrame:
    """Return one row per ended trial, in order of their numbers.

    Args:
        study: Configuration of the study.
        progress: Scores of each trial, by number.
        ended: End of each trial, by number.

    Returns:
        ``STUDY_COLUMNS`` and a column of the tried values for each place of the space: numbers (nan if the recipe has
        None) or strings. ``score``, ``cpm`` and ``auc`` are of the best epoch, nan for a failed trial. ``rank`` is 1
        for the highest score; of equal scores, the lower trial number ranks first.
    """
    rows = [_row(end, progress.get(trial)) for trial, end in sorted(ended.items())]
    table = pd.DataFrame(rows, columns=[column for column in STUDY_COLUMNS if column != "rank"])
    table.insert(1, "rank", table["score"].rank(ascending=False, method="first").astype("Int64"))
    tried = [tried_values(study, str(changes)) for changes in table["changes"]]
    for place, domain in study.space.domains.items():
        table[place] = _column(domain, [values[place] for values in tried])
    return table


def tried_values(study: StudyConfig, changes: str) -> Changes:
    """Return the value of each place of the space in a trial with these ``changes``, a cell of the table."""
    flat = study.base.flat()
    return {place: flat[place] for place in study.space.domains} | changes_from_plain(json.loads(changes))


def winner_of(table: pd.DataFrame) -> tuple[Variant, int]:
    """Return the best trial and its best epoch.

    Raises:
        ValueError: If no trial has a score.
    """
    ranked = table[table["rank"].notna()].sort_values("rank")
    if ranked.empty:
        reasons = "; ".join(sorted(set(table["error"]) - {""})) or "none was started"
        msg = f"A study must have a trial with a score, got {len(table)} trials without ({reasons})."
        raise ValueError(f"{msg} Fix the cause and begin a new study.")
    best = ranked.iloc[0]
    return Variant(int(best["trial"]), changes_from_plain(json.loads(best["changes"]))), int(best["best_epoch"])


def _row(end: TrialEnd, progress: TrialProgress | None) -> dict[str, object]:
    epochs = () if progress is None else progress.epochs
    best = None if progress is None or end.state == FAILED else progress.best()
    return {
        "trial": end.trial,
        "state": end.state,
        "score": float("nan") if best is None else best.score,
        "cpm": float("nan") if best is None else best.cpm,
        "auc": float("nan") if best is None else best.auc,
        "best_epoch": 0 if best is None else best.epoch,
        "num_epochs": len(epochs),
        "num_restarts": end.num_restarts,
        "changes": json.dumps(end.changes),
        "error": end.error,
        "seconds": float(sum(epoch.seconds for epoch in epochs)),
    }


def _column(domain: Domain, values: list[Any]) -> pd.Series:
    is_number = not isinstance(domain, Choices) or all(type(value) in (int, float) for value in values)
    return pd.Series(values, dtype="float64") if is_number else pd.Series([str(value) for value in values], dtype=str)


def importances(table: pd.DataFrame, study: StudyConfig) -> dict[str, float]:
    """Return the importance of each place: its share of the variance of the score, estimated by a forest of 64 trees.

    Args:
        table: See ``study_table``.
        study: Configuration of the study.

    Returns:
        Shares by place in descending order, with sum 1; empty with fewer than four trials or equal scores.

    Source:
        Hutter, Hoos, Leyton-Brown, An efficient approach for assessing hyperparameter importance, ICML 2014 (fANOVA).
    """
    from optuna import create_study, create_trial
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.logging import WARNING, set_verbosity

    from luna_pipeline.tuning.ray.search import distribution_of, encoded

    known = table[table["score"].notna()]
    tried = [tried_values(study, str(changes)) for changes in known["changes"]]
    domains = study.space.domains
    # The unchanged recipe may lie outside the search space.
    inside = [all(domain.holds(values[place]) for place, domain in domains.items()) for values in tried]
    scores = known["score"].tolist()
    if sum(inside) < MIN_TRIALS or len({score for score, is_in in zip(scores, inside, strict=True) if is_in}) < 2:
        return {}
    set_verbosity(WARNING)
    of_optuna = create_study(direction="maximize")
    distributions = {place: distribution_of(domain) for place, domain in domains.items()}
    for values, score, is_in in zip(tried, scores, inside, strict=True):
        if is_in:
            params = {place: encoded(domain, values[place]) for place, domain in domains.items()}
            of_optuna.add_trial(create_trial(params=params, distributions=distributions, value=score))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = FanovaImportanceEvaluator(n_trees=NUM_TREES, seed=0)
        return dict(get_param_importances(of_optuna, evaluator=evaluator))
