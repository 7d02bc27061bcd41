"""Options declared once: the same names, defaults and descriptions in the command line and in Dagster's launchpad."""

import os
from dataclasses import fields

import click
import pytest
from click.testing import CliRunner

from luna_pipeline.assets.training_config import NoduleTrainingConfig
from luna_pipeline.assets.tuning_config import TuningConfig
from luna_pipeline.cli import cli
from luna_pipeline.options import TrainingOptions
from luna_pipeline.tuning.options import TuningOptions

CASES = [
    (TrainingOptions, "train_luna_classification", NoduleTrainingConfig),
    (TuningOptions, "tune_luna_classification", TuningConfig),
]


@pytest.mark.parametrize(("declared", "command", "config"), CASES)
def test_command_and_launchpad_have_the_same_options(declared, command, config):
    parameters = {parameter.name: parameter for parameter in cli.commands[command].params}
    for each in fields(declared):
        parameter, field = parameters[each.name], config.model_fields[each.name]
        assert isinstance(parameter, click.Option)
        assert parameter.default == field.default == each.default, each.name
        assert parameter.help == each.metadata["help"]
        # The launchpad adds the values of the recipes.
        assert field.description.startswith(parameter.help.removesuffix("."))
    assert config().model_dump().keys() >= {each.name for each in fields(declared)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "1"], "1 is not in the range x>=2"),
        (["--seconds", "0"], "0.0 is not in the range x>0"),
        (["--gpus", "-1"], "-1.0 is not in the range x>=0"),
        (["--search", "best"], "'best' is not one of 'grid', 'random', 'optuna'"),
        (["--concurrent", "0"], "0 is not in the range x>=1"),
    ],
)
def test_a_value_out_of_its_limits_is_wrong_usage(arguments, message):
    result = CliRunner(env={**os.environ, "COLUMNS": "200"}).invoke(cli, ["tune_luna_classification", *arguments])
    assert result.exit_code == 2
    assert message in result.output
