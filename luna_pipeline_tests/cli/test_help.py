"""The help of every command: examples that are right, a text on each option."""

import shlex
from collections.abc import Iterator

import click
import pytest

from luna_pipeline.cli import cli
from luna_pipeline.cli.grouped import Command
from luna_pipeline.cli.training import NODULES
from luna_pipeline.core.training.recipes import RECIPES


def every_command(group: click.Group, *names: str) -> Iterator[tuple[str, click.Command]]:
    """Yield all commands with their full names, those of groups within groups too."""
    for name, each in group.commands.items():
        if isinstance(each, click.Group):
            yield from every_command(each, *names, name)
        else:
            yield " ".join([*names, name]), each


COMMANDS = dict(every_command(cli))
EXAMPLES = [(name, line) for name, each in COMMANDS.items() for line in getattr(each, "examples", ())]


def test_json_is_one_option_of_all_commands_that_print_it():
    found = {name: [one for one in each.params if "--json" in one.opts] for name, each in COMMANDS.items()}
    options = {name: one for name, (one,) in ((name, many) for name, many in found.items() if many)}
    of_flags = {name: (one.name, one.help) for name, one in options.items() if one.is_flag}
    assert set(of_flags.values()) == {
        ("is_json", "Print the result as one JSON document; other lines go to standard error.")
    }
    assert {"status", "prune", "rebuild_luna16_key", "list", "doctor", "predict"} <= set(of_flags)
    # The official evaluations have a file, as the challenges' own programs.
    assert set(options) - set(of_flags) == {"evaluate_froc", "evaluate_luna25"}


def parsed(line: str, patch: pytest.MonkeyPatch) -> click.Context:
    """Return the context of the command of a line, as if the files that it names were there."""
    program, *words = shlex.split(line.split(" >", maxsplit=1)[0])
    assert program == "luna"
    context = cli.make_context("luna", words)
    while isinstance(context.command, click.Group):
        # The words that a group leaves to its commands.
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                patch.setattr(parameter.type, "exists", False)
        context = command.make_context(name, rest, parent=context)
    return context


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_up_to_three_examples_of_itself(name: str):
    command = COMMANDS[name]
    assert isinstance(command, Command)
    assert 1 <= len(command.examples) <= 3
    assert all(line.split()[: 1 + len(name.split())] == ["luna", *name.split()] for line in command.examples)
    shown = " ".join(command.get_help(click.Context(command)).replace("\\\n", " ").split())
    assert f"Examples: {' '.join(command.examples)}" in shown


@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_each_example_is_a_right_command_line(name: str, line: str, monkeypatch: pytest.MonkeyPatch):
    context = parsed(line, monkeypatch)
    assert context.command is COMMANDS[name]
    if "changes" in context.params and "config_file" in context.params:
        RECIPES.get(context.params["recipe"] or NODULES)().with_changes(context.params["changes"])


def test_a_wrong_example_would_be_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(click.NoSuchOption):
        parsed("luna prune --yess", monkeypatch)
    with pytest.raises(click.UsageError):
        parsed("luna resume nodule_classifier", monkeypatch)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_explained_in_a_sentence(name: str):
    assert COMMANDS[name].help.split("\n\n")[0].endswith(".")
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option) and not option.hidden:
            # A sentence, or one that ends with an address.
            assert option.help, option.opts
            assert option.help[0].isupper() or option.help[0] == "`", option.opts
            assert option.help.endswith((".", "/api")), option.opts
