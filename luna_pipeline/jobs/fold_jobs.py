"""Jobs that go through test folds: training, evaluation, and both for every fold.

A fold is a partition, and a run makes one: each op here runs its asset fold by fold, and bears the asset's name so that
its configuration stands where the asset's own does.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets.draws import DrawsConfig
from luna_pipeline.assets.training_config import (
    AllNoduleFolds,
    BaselineConfig,
    ChosenFolds,
    HeldOutFolds,
    MalignancyFolds,
    NoduleFolds,
    PredictionConfig,
)
from luna_pipeline.assets.tuning_config import TuningFolds
from luna_pipeline.runs.executor import interruptible_executor
from luna_pipeline.runs.nested import materialize_nested, run_nested_job
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.launchers.cross_validation import PooledFolds

AFTER = {"after": dg.In(dg.Nothing)}
# Assets of all pooled folds together, made in one run.
OF_EACH_TASK = ("report", "calibration", "subgroups", "errors", "model_cards")
NODULE_REPORTS = ["nodule_froc", *(f"nodule_{kind}" for kind in OF_EACH_TASK), "leaderboard"]
MALIGNANCY_REPORTS = [f"malignancy_{kind}" for kind in OF_EACH_TASK]
WITH_DRAWS = {"nodule_froc", "nodule_report", "malignancy_report"}


@dg.op(required_resource_keys={"cutting"}, out=dg.Out(dg.Nothing), description="Run the job `index` to its end.")
def nested_index(context: dg.OpExecutionContext) -> None:
    """Make the cutout index, with the cutting parameters of this run."""
    run_nested_job(context, "index", _resources(context, "cutting"))


def _trained(asset: str, config_type: type[ChosenFolds], name: str) -> Any:
    @dg.op(
        name=name,
        ins=AFTER,
        required_resource_keys={"cutting", "mlflow_runs"},
        description=f"Train `{asset}` for one test fold after the other.",
    )
    def train_folds(context: dg.OpExecutionContext, config: config_type) -> list[int]:  # type: ignore[valid-type]
        from luna_pipeline.launchers.cross_validation import chosen_folds

        folds = chosen_folds(Settings.from_environment(), config.folds, all_folds=config.all_folds)  # type: ignore[attr-defined]
        _make(context, [asset], folds, config.of_each_fold(), "cutting", "mlflow_runs")  # type: ignore[attr-defined]
        return folds

    return train_folds.alias(asset)


@dg.op(
    ins=AFTER,
    required_resource_keys={"ray"},
    description="Make `tuning_study` and `tuned_nodule_classifier` for one test fold after the other.",
)
def tune_folds(context: dg.OpExecutionContext, config: TuningFolds) -> list[int]:
    """Search for each fold by itself: none of its trials sees the fold."""
    from luna_pipeline.launchers.cross_validation import chosen_folds

    folds = chosen_folds(Settings.from_environment(), config.folds, all_folds=config.all_folds)
    _make(context, ["tuning_study", "tuned_nodule_classifier"], folds, config.of_each_fold(), "ray")
    return folds


def _fitted(asset: str, config_type: type[dg.Config], *more: str) -> Any:
    @dg.op(
        name=f"{asset}_fold_by_fold",
        required_resource_keys={"cutting"},
        description=f"Make `{asset}` for the test folds that were trained for.",
    )
    def fit_folds(context: dg.OpExecutionContext, folds: list[int], config: config_type) -> list[int]:  # type: ignore[valid-type]
        _make(context, [asset, *more], folds, config.model_dump(exclude_none=True), "cutting")  # type: ignore[attr-defined]
        return folds

    return fit_folds.alias(asset)


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    required_resource_keys={"cutting"},
    description="Make `nodule_predictions` for the test folds that are pooled.",
)
def predict_nodules(context: dg.OpExecutionContext, config: PredictionConfig) -> None:
    """Score the folds of the newest classifier's recipe and index."""
    from luna_pipeline.launchers.cross_validation import pooled_folds

    pooled = pooled_folds(Settings.from_environment(), "nodule_classifier")
    context.log.info("Pooled: %s", pooled.title)
    for reason in pooled.left_out.values():
        context.log.warning("Left out: %s", reason)
    assets = ["nodule_predictions", "nodule_models"]
    _make(context, assets, pooled.folds, config.model_dump(), "cutting")


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    required_resource_keys={"cutting"},
    description="Make `malignancy_predictions` for the test folds that are pooled, where any were trained on the "
    "cutouts of today.",
)
def predict_malignancy(context: dg.OpExecutionContext, config: PredictionConfig) -> None:
    """Score the folds of the newest classifier's recipe and index; not to have trained any is no failure."""
    pooled = _malignancy(context)
    if pooled is not None:
        assets = ["malignancy_predictions", "malignancy_models"]
        _make(context, assets, pooled.folds, config.model_dump(), "cutting")


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    required_resource_keys={"cutting"},
    description="Make scores, reports and leaderboard of all pooled folds together, and those of malignancy where "
    "there are predictions of it.",
)
def report_in_turn(context: dg.OpExecutionContext, config: DrawsConfig) -> None:
    """Pool the folds' predictions."""
    for assets in (NODULE_REPORTS, MALIGNANCY_REPORTS if _malignancy(context) else []):
        ops = {name: {"config": config.model_dump()} for name in assets if name in WITH_DRAWS}
        if assets:
            materialize_nested(context, assets, run_config={"ops": ops, **_resources(context, "cutting")})


def _malignancy(context: dg.OpExecutionContext) -> "PooledFolds | None":
    """Return the folds of malignancy that are pooled, if any were trained on the cutouts of today."""
    from luna_pipeline.launchers.cross_validation import is_of_today, pooled_folds, trained_folds

    settings = Settings.from_environment()
    if not trained_folds(settings, "malignancy_classifier"):
        context.log.info("No malignancy classifier was trained")
        return None
    pooled = pooled_folds(settings, "malignancy_classifier")
    if not is_of_today(settings, pooled):
        context.log.warning("Left out: malignancy, whose classifiers were trained on another cutout index")
        return None
    return pooled


train_nodule_folds = _trained("nodule_classifier", NoduleFolds, "nodule_classifier_fold_by_fold")
train_all_nodule_folds = _trained("nodule_classifier", AllNoduleFolds, "nodule_classifier_of_all_folds")
train_malignancy_folds = _trained("malignancy_classifier", MalignancyFolds, "malignancy_classifier_fold_by_fold")
fit_zero_rule = _fitted("zero_rule_baseline", HeldOutFolds)
fit_features = _fitted("feature_baseline", BaselineConfig, "feature_baseline_models")
fit_malignancy_features = _fitted("malignancy_feature_baseline", BaselineConfig, "malignancy_feature_baseline_models")


def _baselines(folds: Any) -> Any:
    return fit_features(fit_zero_rule(folds))


def _evaluated(after: Any = None) -> None:
    nodules = predict_nodules.alias("nodule_predictions")
    predicted = nodules() if after is None else nodules(after=after)
    report_in_turn.alias("nodule_report")(after=predict_malignancy.alias("malignancy_predictions")(after=predicted))


@dg.job(
    executor_def=interruptible_executor,
    description="Index the cutouts; for each chosen test fold train on all folds but it and the validation fold.",
)
def train_nodule_classifier() -> None:
    """Classifiers first, then what they have to beat."""
    _baselines(train_nodule_folds(after=nested_index()))


@dg.job(
    executor_def=interruptible_executor,
    description="Index the cutouts; for each chosen test fold train on the rated nodules of all folds but it and the "
    "validation fold.",
)
def train_malignancy_classifier() -> None:
    """Classifiers first, then what they have to beat."""
    fit_malignancy_features(train_malignancy_folds(after=nested_index()))


@dg.job(
    executor_def=interruptible_executor,
    description="Score the test folds of the newest classifier's recipe and cutouts, and report on all of them.",
)
def evaluate() -> None:
    """Predictions fold by fold, then the reports."""
    _evaluated()


@dg.job(
    executor_def=interruptible_executor,
    description="Cross-validation: train for every test fold, score each by the classifier that has not seen it, and "
    "report on all of them.",
)
def cross_validate() -> None:
    """Training of all folds, then evaluation."""
    _evaluated(after=_baselines(train_all_nodule_folds(after=nested_index())))


@dg.job(
    executor_def=interruptible_executor,
    description="Index the cutouts; for each chosen test fold search a better configuration of the nodule classifier, "
    "train what won on all other folds, and hold it against the recipe as it is.",
)
def tune() -> None:
    """A study for each chosen fold."""
    tune_folds.alias("tuning_study")(after=nested_index())


FOLD_JOBS = [train_nodule_classifier, train_malignancy_classifier, evaluate, cross_validate, tune]


def _make(
    context: dg.OpExecutionContext, assets: Sequence[str], folds: Sequence[int], config: Mapping[str, Any], *keys: str
) -> None:
    """Make assets of one op for each fold, the op being named as the first of them."""
    run_config = {"ops": {assets[0]: {"config": dict(config)}}, **_resources(context, *keys)}
    for fold in folds:
        materialize_nested(context, assets, fold=fold, run_config=run_config)


def _resources(context: dg.OpExecutionContext, *keys: str) -> dict[str, Any]:
    """Return the part of this run's configuration that runs inside it share."""
    given: Any = context.run.run_config.get("resources", {})
    return {"resources": {key: given[key] for key in keys if key in given}}
