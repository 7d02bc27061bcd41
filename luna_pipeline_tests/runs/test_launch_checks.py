"""Configured values that are not allowed are refused when a run is launched, before it exists."""

import dagster as dg
import pandas as pd
import pytest
from pydantic import Field

from luna_pipeline.definitions import defs
from luna_pipeline.runs.launch_checks import ConfigValueError, check_at_launch, config_type_of


class Size(dg.Config):
    """A number with a range, and a rule of its own."""

    number: int = Field(default=1, ge=1)
    word: str = "small"

    def check_values(self) -> None:
        """Raise a ValueError for a word."""
        if self.word == "huge":
            msg = "A word must be small, got huge."
            raise ValueError(msg)


class Shelf(dg.ConfigurableResource):
    """A resource with a range."""

    room: int = Field(default=1, ge=1)


@pytest.fixture(scope="module")
def job() -> dg.JobDefinition:
    started = []

    @dg.op
    def measure(config: Size, shelf: Shelf) -> None:
        started.append(config.number + shelf.room)

    shelf = Shelf()

    @dg.job(resource_defs={"shelf": shelf})
    def measured() -> None:
        measure.alias("measure_it")()

    check_at_launch([measured], {"shelf": shelf})
    return measured


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"number": 0}, r"^number must be greater than or equal to 1, got 0 \(configuration of measure_it\). Change"),
        ({"word": "huge"}, r"^A word must be small, got huge. \(configuration of measure_it\)$"),
    ],
)
def test_a_run_with_a_value_that_is_not_allowed_is_not_created(job, config, line):
    with dg.instance_for_test() as instance:
        with pytest.raises(ConfigValueError, match=line):
            job.execute_in_process({"ops": {"measure_it": {"config": config}}}, instance=instance)
        assert instance.get_runs() == []
        assert job.execute_in_process({"ops": {"measure_it": {"config": {"number": 2}}}}, instance=instance).success


def test_a_resource_is_checked_too(job):
    with pytest.raises(ConfigValueError, match=r"^room must be .* got 0 \(configuration of shelf\)"):
        dg.validate_run_config(job, {"resources": {"shelf": {"config": {"room": 0}}}})


TRAIN, CUT, TUNE = "train_nodule_classifier", "cut", "tune"


def refused(name: str, run_config: dict) -> str:
    with pytest.raises((ConfigValueError, dg.DagsterInvalidConfigError)) as refusal:
        dg.validate_run_config(defs.resolve_job_def(name), run_config)
    return " ".join(str(refusal.value).split())


@pytest.mark.parametrize(
    ("name", "op", "config", "line"),
    [
        (TRAIN, "nodule_classifier", {"epochs": -1}, "epochs must be greater than or equal to 1, got -1"),
        (TRAIN, "nodule_classifier", {"batch_size": 0}, "batch_size must be greater than or equal to 1, got 0"),
        (
            TRAIN,
            "nodule_classifier",
            {"recipe": "dmeo"},
            "recipe not in enum type one of nodule_baseline, demo got",
        ),
        (TRAIN, "nodule_classifier", {"folds": [7]}, "A held-out fold must exist, got 7 of folds [0, 1, 2]."),
        (TRAIN, "nodule_classifier", {"folds": [-1]}, "folds.0 must be greater than or equal to 0, got -1"),
        (TRAIN, "nodule_classifier", {"validation_fold": 7}, "A held-out fold must exist, got 7"),
        (TRAIN, "nodule_classifier", {"changes": {"network.nam": "x"}}, "Did you mean 'network.name'?"),
        (TRAIN, "nodule_classifier", {"start_loader": "fiel"}, "start_loader not in enum type"),
        (TRAIN, "nodule_classifier", {"processes": 0}, "processes must be greater than or equal to 1, got 0"),
        (
            TRAIN,
            "feature_baseline",
            {"estimators": ["forest"]},
            "type one of logistic_regression, gradient_boosting",
        ),
        ("train_malignancy_classifier", "malignancy_classifier", {"epochs": 0}, "epochs must be"),
        ("cross_validate", "nodule_classifier", {"seed": -1}, "seed must be"),
        (TUNE, "tuning_study", {"trials": 1}, "trials must be greater than or equal to 2, got 1"),
        (TUNE, "tuning_study", {"space": "lerning"}, "The search space must be one of learning"),
        (TUNE, "tuning_study", {"search": "bayes"}, "search not in enum type"),
        (TUNE, "tuning_study", {"metric": "f1"}, "metric not in enum type one of cpm, auc got f1"),
        ("evaluate", "nodule_report", {"num_bootstraps": 0}, "num_bootstraps must be"),
        ("demo", "make_phantom_data", {"size_irc": [64, 0, 64]}, "size_irc.1 must be"),
    ],
)
def test_values_of_this_projects_jobs_are_refused_at_launch(tmp_path, monkeypatch, name, op, config, line):
    (tmp_path / "tables").mkdir()
    pd.DataFrame({"fold": [0, 1, 2]}).to_parquet(tmp_path / "tables/folds.parquet")
    monkeypatch.setenv("LUNA_HOME", str(tmp_path))
    assert line in refused(name, {"ops": {op: {"config": config}}})


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            {"chunk_shape_irc": [0, 48, 48]},
            "A chunk's shape must be three positive numbers of voxels, got (0, 48, 48).",
        ),
        ({"chunk_shape_irc": [32, 48]}, "A chunk's shape must be three positive numbers"),
        ({"hu_window": [400, -1000]}, "A HU window must be two rising int16 numbers"),
        ({"edge_rule": "shft"}, "edge_rule not in enum type"),
        ({"cutouts": "flying"}, "cutouts not in enum type"),
        ({"workers": 0}, "workers must be greater than or equal to 1, got 0"),
        ({"training_length": 0}, "training_length must be"),
    ],
)
def test_parameters_of_cutting_are_refused_at_launch(config, line):
    assert line in refused(CUT, {"resources": {"cutting": {"config": config}}})


def test_folds_are_not_checked_before_the_data_were_read(tmp_path, monkeypatch):
    monkeypatch.setenv("LUNA_HOME", str(tmp_path))
    config = {"ops": {"nodule_classifier": {"config": {"folds": [7], "recipe": "demo", "epochs": 1}}}}
    assert dg.validate_run_config(defs.resolve_job_def(TRAIN), config)


def test_an_op_with_a_configuration_of_its_own_is_checked_in_every_job():
    ops = {
        f"{job.name}: {op.name}": op.config_schema.config_type
        for job in defs.resolve_all_job_defs()
        for op in job.all_node_defs
        if isinstance(op, dg.OpDefinition) and config_type_of(op) is not None
    }
    assert len(ops) > 20
    assert [name for name, config_type in ops.items() if "post_process" not in vars(config_type)] == []
