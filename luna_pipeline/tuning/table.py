"""A study as a table, a row a trial, and its winner."""

import json
import warnings
from collections.abc import Mapping
from typing import Any

import pandas as pd

from luna_pipeline.tuning.records import FAILED, TrialEnd, TrialProgress
from luna_pipeline.tuning.space import Changes, Choices, Domain, changes_from_plain
from luna_pipeline.tuning.study import StudyConfig, Variant

TIME_COLUMNS = ("seconds",)
STUDY_COLUMNS = (
    "trial",
    "rank",
    "state",
    "score",
    "cpm",
    "auc",
    "best_epoch",
    "num_epochs",
    "num_restarts",
    "changes",
    "error",
    *TIME_COLUMNS,
)


def study_table(
    study: StudyConfig, progress: Mapping[int, TrialProgress], ended: Mapping[int, TrialEnd]
) -> pd.DataFrame:
    """Return a row for each trial that is over, by its number.

    Args:
        study: What was searched.
        progress: How far each trial came, by number.
        ended: How each ended, by number.

    Returns:
        ``STUDY_COLUMNS`` and, for each place of the space, a column of what was tried: numbers (nan where the recipe
        has None in a range's place), or words. ``score``, ``cpm`` and ``auc`` are those of the epoch with the highest
        score, nan of a trial that failed; ``rank`` is 1 for the highest score, of equals for the lower number.
    """
    rows = [_row(end, progress.get(trial)) for trial, end in sorted(ended.items())]
    table = pd.DataFrame(rows, columns=[column for column in STUDY_COLUMNS if column != "rank"])
    table.insert(1, "rank", table["score"].rank(ascending=False, method="first").astype("Int64"))
    tried = [tried_values(study, str(changes)) for changes in table["changes"]]
    for place, domain in study.space.domains.items():
        table[place] = _column(domain, [values[place] for values in tried])
    return table


def tried_values(study: StudyConfig, changes: str) -> Changes:
    """Return the value of each place of the space in a trial.

    Args:
        study: What was searched.
        changes: What the trial changed, the table's column.
    """
    flat = study.base.flat()
    return {place: flat[place] for place in study.space.domains} | changes_from_plain(json.loads(changes))


def winner_of(table: pd.DataFrame) -> tuple[Variant, int]:
    """Return what won and its best epoch.

    Raises:
        ValueError: If no trial has a score.
    """
    ranked = table[table["rank"].notna()].sort_values("rank")
    if ranked.empty:
        reasons = "; ".join(sorted(set(table["error"]) - {""})) or "none was begun"
        msg = f"A study must have a trial with a score, got {len(table)} trials without ({reasons})."
        raise ValueError(f"{msg} Mend what failed and begin a new study.")
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


# With fewer trials any order of the places is an accident.
MIN_TRIALS = 4
NUM_TREES = 64


def importances(table: pd.DataFrame, study: StudyConfig) -> dict[str, float]:
    """Return each place's share of what the score moved by, falling; nothing where too little is known.

    Args:
        table: See ``study_table``.
        study: What was searched.

    Returns:
        Shares that sum to 1 by place: of the variance of the score over the space, as a forest of 64 trees has it.

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
    # The recipe as it is may lie outside of what is searched: of that space it says nothing.
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
