"""How much each searched value mattered, by Optuna's evaluator, from the table of a study whoever searched."""

import warnings

import pandas as pd

from luna_pipeline.tuning.study import StudyConfig
from luna_pipeline.tuning.table import tried_values

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

    from luna_pipeline.tuning.search import distribution_of, encoded

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
