"""Jobs over test folds: training, evaluation, tuning, and cross-validation.

A fold is a partition, and a run materializes one partition. So each op here starts one run per fold. It has the name of
its asset, so that its configuration has the same place as the asset's.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets.detection_config import DetectionFolds
from luna_pipeline.assets.draws import DrawsConfig
from luna_pipeline.assets.training_config import (
    AllNoduleFolds,
    BaselineConfig,
    ChosenFolds,
    HeldOutFolds,
    MalignancyFolds,
    NoduleFolds,
    PredictionConfig,
    SegmenterFolds,
)
from luna_pipeline.assets.tuning_config import TuningFolds
from luna_pipeline.jobs.definition import job
from luna_pipeline.jobs.score_line import score_line
from luna_pipeline.partitions import register_folds
from luna_pipeline.runs.nested import materialize_nested, run_nested_job
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.launchers.cross_validation import PooledFolds

AFTER = {"after": dg.In(dg.Nothing)}
NOTHING = dg.Out(dg.Nothing)
# Assets that cover all pooled folds, made in one run.
OF_EACH_TASK = ("report", "calibration", "subgroups", "errors", "model_cards")
NODULE_REPORTS = ["nodule_froc", *(f"nodule_{kind}" for kind in OF_EACH_TASK), "leaderboard"]
MALIGNANCY_REPORTS = [f"malignancy_{kind}" for kind in OF_EACH_TASK]
WITH_DRAWS = {"nodule_froc", "nodule_report", "malignancy_report"}


@dg.op(required_resource_keys={"cutting"}, out=NOTHING)
def nested_index(context: dg.OpExecutionContext) -> None:
    """Run the job `index` to its end, with the cutting parameters of this run."""
    run_nested_job(context, "index", _resources(context, "cutting"))


def _trained(
    name: str, config_type: type[ChosenFolds], assets: Sequence[str], *resources: str, table: str = "cutout_index"
) -> Any:
    shown = "` and `".join(assets)

    @dg.op(
        name=name,
        ins=AFTER,
        required_resource_keys=set(resources),
        description=f"Make `{shown}` for one test fold after the other.",
    )
    def train_folds(context: dg.OpExecutionContext, config: config_type) -> list[int]:  # type: ignore[valid-type]
        from luna_pipeline.launchers.cross_validation import chosen_folds

        settings, values = Settings.from_environment(), config.of_each_fold()  # type: ignore[attr-defined]
        folds = chosen_folds(settings, config.folds, all_folds=config.all_folds, table=table)  # type: ignore[attr-defined]
        _make(context, assets, folds, values, *resources, table=table)
        return folds

    return train_folds.alias(assets[0])


def _fitted(config_type: type[dg.Config], asset: str) -> Any:
    @dg.op(
        name=f"{asset}_fold_by_fold",
        required_resource_keys={"cutting"},
        description=f"Make `{asset}` for the test folds that were trained for.",
    )
    def fit_folds(context: dg.OpExecutionContext, folds: list[int], config: config_type) -> list[int]:  # type: ignore[valid-type]
        _make(context, [asset], folds, config.model_dump(exclude_none=True), "cutting")  # type: ignore[attr-defined]
        return folds

    return fit_folds.alias(asset)


def _predicted(task: str) -> Any:
    @dg.op(
        name=f"predict_{task}",
        ins=AFTER,
        out=NOTHING,
        required_resource_keys={"cutting"},
        description=f"Make `{task}_predictions` for the test folds of the newest classifier's recipe and cutouts, "
        "after the baselines that are missing.",
    )
    def predict_folds(context: dg.OpExecutionContext, config: PredictionConfig) -> None:
        from luna_pipeline.launchers.cross_validation import OLDER, uses_current_index

        pooled = _pooled(context, task)
        if pooled is not None:
            context.log.info("Pooled: %s", pooled.title)
            for reason in pooled.left_out.values():
                context.log.warning("Left out: %s", reason)
            if not uses_current_index(Settings.from_environment(), pooled):
                for classifier in pooled.classifiers:
                    context.log.warning("%s %s", classifier.version, OLDER)
            _make_baselines(context, pooled)
            _make(context, [f"{task}_predictions"], pooled.folds, config.model_dump(), "cutting")

    return predict_folds.alias(f"{task}_predictions")


@dg.op(ins=AFTER, out=NOTHING, required_resource_keys={"cutting"})
def report_pooled(context: dg.OpExecutionContext, config: DrawsConfig) -> None:
    """Make scores, reports and leaderboard of all pooled folds; of malignancy if it was predicted."""
    reports = {"nodule": NODULE_REPORTS, "malignancy": MALIGNANCY_REPORTS}
    for assets in (assets if _pooled(context, task) else [] for task, assets in reports.items()):
        ops = {name: {"config": config.model_dump()} for name in assets if name in WITH_DRAWS}
        if assets:
            materialize_nested(context, assets, run_config={"ops": ops, **_resources(context, "cutting")})
    line, metadata = score_line(Settings.from_environment())
    context.log.info(line)
    context.add_output_metadata(metadata)


@dg.op(ins=AFTER, out=NOTHING)
def detect_folds(context: dg.OpExecutionContext, config: DetectionFolds) -> None:
    """Make `detection_froc` for the chosen test folds, or for those with a segmenter."""
    from luna_pipeline.launchers.cross_validation import trained_folds
    from luna_pipeline.launchers.diagnosis.detection import score_line
    from luna_pipeline.launchers.installation import read_table

    settings = Settings.from_environment()
    folds = sorted(set(config.folds)) or trained_folds(settings, "nodule_segmenter")
    if not folds:
        msg = f"A segmenter must be trained before it is scored, got none (in {settings.checkpoints_dir})."
        raise FileNotFoundError(f"{msg} Run the job `train_nodule_segmenter` first.")
    _make(context, ["detection_froc"], folds, config.of_each_fold(), table="folds")
    for fold in folds:
        context.log.info(score_line(read_table(settings, "detection_froc", fold), is_synthetic=settings.is_synthetic))


def _pooled(context: dg.OpExecutionContext, task: str) -> "PooledFolds | None":
    """Return the folds to pool; None if malignancy classifiers are missing or of other cutouts than the current."""
    from luna_pipeline.launchers.cross_validation import pooled_folds, trained_folds, uses_current_index

    settings, asset = Settings.from_environment(), f"{task}_classifier"
    other = f"{'nodule' if task == 'malignancy' else 'malignancy'}_classifier"
    # Data sources of nodules alone have no negatives for a nodule classifier.
    if not trained_folds(settings, asset) and (task == "malignancy" or trained_folds(settings, other)):
        context.log.info("No %s classifier was trained", task)
        return None
    pooled = pooled_folds(settings, asset)
    if task == "malignancy" and not uses_current_index(settings, pooled):
        context.log.warning("Left out: malignancy, whose classifiers were trained on another cutout index")
        return None
    return pooled


NODULES, MALIGNANCY, RESOURCES = ["nodule_classifier"], ["malignancy_classifier"], ("cutting", "mlflow_runs")
train_nodules = _trained("nodule_classifier_fold_by_fold", NoduleFolds, NODULES, *RESOURCES)
train_all = _trained("nodule_classifier_of_all_folds", AllNoduleFolds, NODULES, *RESOURCES)
train_malignancy = _trained("malignancy_classifier_fold_by_fold", MalignancyFolds, MALIGNANCY, *RESOURCES)
# A study per fold: none of its trials uses the test fold.
tune_folds = _trained("tune_folds", TuningFolds, ["tuning_study", "tuned_nodule_classifier"], "ray")
# CTs and annotations are enough: cutouts are not read.
train_segmenters = _trained(
    "nodule_segmenter_fold_by_fold", SegmenterFolds, ["nodule_segmenter"], "mlflow_runs", table="folds"
)
predict_nodules, predict_malignancy = _predicted("nodule"), _predicted("malignancy")
fit_zero_rule = _fitted(HeldOutFolds, "zero_rule_baseline")
fit_features = _fitted(BaselineConfig, "feature_baseline")
fit_malignancy_features = _fitted(BaselineConfig, "malignancy_feature_baseline")


def _baselines(folds: Any) -> Any:
    return fit_features(fit_zero_rule(folds))


def _evaluated(**after: Any) -> None:
    report_pooled.alias("nodule_report")(after=predict_malignancy(after=predict_nodules(**after)))


@job
def train_nodule_classifier() -> None:
    """Index the cutouts; for each chosen test fold, train on all folds except it and the validation fold."""
    _baselines(train_nodules(after=nested_index()))


@job
def train_malignancy_classifier() -> None:
    """Index the cutouts; for each chosen test fold, train on the rated nodules of all but the held-out folds."""
    fit_malignancy_features(train_malignancy(after=nested_index()))


@job
def train_nodule_segmenter() -> None:
    """For each chosen test fold, train a segmenter of nodules on the CTs of all folds but the held-out ones."""
    train_segmenters()


@job
def evaluate_detection() -> None:
    """Search every scan of the test folds with the segmenter and the classifier of the fold, and score the findings."""
    detect_folds.alias("detection_froc")()


@job
def evaluate() -> None:
    """Score the test folds of the newest classifier's recipe and cutouts, and report on all of them.

    Baselines that are missing, or are of other cutouts, are made first.
    """
    _evaluated()


@job
def cross_validate() -> None:
    """Train for every test fold, score each with the classifier that has not seen it, and report on all of them."""
    _evaluated(after=_baselines(train_all(after=nested_index())))


@job
def tune() -> None:
    """Index the cutouts; for each chosen test fold, search for a better configuration of the nodule classifier.

    The winner is trained on all other folds and compared with the original recipe.
    """
    tune_folds(after=nested_index())


FOLD_JOBS = [
    *(train_nodule_classifier, train_malignancy_classifier, train_nodule_segmenter),
    *(evaluate, evaluate_detection, cross_validate, tune),
]


def _make(
    context: dg.OpExecutionContext,
    assets: Sequence[str],
    folds: Sequence[int],
    config: Mapping[str, Any],
    *keys: str,
    table: str = "cutout_index",
) -> None:
    """Materialize assets for each fold; the first one's op gets the configuration, ``table`` names all folds."""
    from luna_pipeline.launchers.cross_validation import folds_of_data

    # A DAGSTER_HOME that is new, or older than these partitions, has no folds registered.
    register_folds(context.instance, folds_of_data(Settings.from_environment(), table))
    run_config = {"ops": {assets[0]: {"config": dict(config)}}, **_resources(context, *keys)}
    for fold in folds:
        materialize_nested(context, assets, fold=fold, run_config=run_config)


def _make_baselines(context: dg.OpExecutionContext, pooled: "PooledFolds") -> None:
    """Make the baselines of pooled folds that are missing, with the validation fold of the fold's classifier."""
    from luna_pipeline.launchers.evaluation.missing_inputs import missing_baselines

    for missing in list(missing_baselines(Settings.from_environment(), pooled)):
        context.log.info("`%s` of fold %s is made first: %s", missing.asset, missing.fold, missing.reason)
        config = {} if missing.validation_fold is None else {"validation_fold": missing.validation_fold}
        _make(context, [missing.asset], [missing.fold], config, "cutting")


def _resources(context: dg.OpExecutionContext, *keys: str) -> dict[str, Any]:
    """Return the configuration of resources that nested runs share with this one."""
    given: Any = context.run.run_config.get("resources", {})
    return {"resources": {key: given[key] for key in keys if key in given}}
