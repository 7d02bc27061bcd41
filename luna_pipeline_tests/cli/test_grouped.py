"""The help of the command line: every command in a section, no line cut."""

import click
from click.testing import CliRunner

from luna_pipeline.cli import cli
from luna_pipeline.cli.grouped import Group, command, similar_names


def test_every_command_stands_in_one_section_with_its_whole_sentence():
    listed = [name for names in cli.sections.values() for name in names]
    assert sorted(listed) == sorted(cli.commands)
    # Without spaces: lines are also broken at hyphens.
    shown = "".join(CliRunner().invoke(cli, ["--help"], terminal_width=60).output.split())
    for name, each in cli.commands.items():
        assert "".join([name, *each.help.split("\n\n")[0].split()]) in shown


def test_sections_are_in_the_order_of_their_registration_and_aligned():
    @command("second", "luna second now")
    def second() -> None:
        """Follow."""

    @command("first")
    def first() -> None:
        """Begin.

        Details.
        """

    group = Group("luna")
    group.add_section("Z", [first])
    group.add_section("A", [second])
    lines = group.get_help(click.Context(group)).splitlines()
    assert lines[-5:] == ["Z:", "  first   Begin.", "", "A:", "  second  Follow."]
    assert second.get_help(click.Context(second)).splitlines()[-2:] == ["Examples:", "  luna second now"]


def test_similar_names_are_suggested_before_those_that_contain_the_word():
    names = ["create_cutouts", "verify_cutouts", "train_luna_classification", "prune"]
    assert similar_names("creat-cutouts", names) == ["create_cutouts"]
    assert similar_names("cutouts", names) == ["create_cutouts", "verify_cutouts"]
    assert similar_names("train", names) == ["train_luna_classification"]
    assert similar_names("xyz", names) == []
