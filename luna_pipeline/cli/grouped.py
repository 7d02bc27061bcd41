"""Commands with examples in their help, and groups of commands that are listed by task."""

from collections.abc import Callable, Iterable
from typing import Any

import click

_MAX_NAME_WIDTH = 30


class Command(click.Command):
    """A command whose help ends with examples.

    Args:
        examples: Complete command lines, as a user types them.
    """

    def __init__(self, *arguments: Any, examples: Iterable[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples; those that are too long are continued as a shell continues a line."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{' ' * formatter.current_indent}{_continued(line, formatter.width)}\n")
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """Commands by section, in the order of their registration; unknown names suggest similar ones."""

    command_class = Command

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sections: dict[str, list[str]] = {}

    def add_section(self, title: str, commands: Iterable[click.Command]) -> None:
        """Register commands that the help lists below a title."""
        for each in commands:
            self.add_command(each)
            self.sections.setdefault(title, []).append(str(each.name))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names as in the help; commands of no section are the last."""
        listed = [name for names in self.sections.values() for name in names]
        return [*listed, *(name for name in super().list_commands(ctx) if name not in listed)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section with a sentence on each of its commands, which is wrapped and never cut."""
        listed = [name for names in self.sections.values() for name in names]
        others = [name for name in self.list_commands(ctx) if name not in listed]
        width = min(_MAX_NAME_WIDTH, max(map(len, self.commands)))
        for title, names in {**self.sections, "Commands": others}.items():
            # Names of the same width align the help over all sections.
            rows = [(f"{name:<{width}}", _one_sentence(self.commands[name])) for name in names]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=width)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return a command by its name, or suggest those whose names are similar or contain the word."""
        word = args[0]
        if self.get_command(ctx, word) is None and word[:1].isalnum():
            suggested = similar_names(word, self.list_commands(ctx))
            advice = f"Did you mean {' or '.join(suggested)}?" if suggested else f"See {ctx.command_path} --help."
            ctx.fail(f"No such command '{word}'. {advice}")
        return super().resolve_command(ctx, args)


def similar_names(word: str, names: Iterable[str]) -> list[str]:
    """Return up to three names that are similar to a word, or else contain it."""
    from difflib import get_close_matches

    plain = word.lower().replace("-", "_")
    names = list(names)
    return (get_close_matches(plain, names, n=3, cutoff=0.7) or [name for name in names if plain in name])[:3]


def command(name: str, *examples: str, **options: Any) -> Callable[[Callable[..., Any]], Command]:
    """Return a decorator that makes a command of a function.

    Args:
        name: Of the command.
        examples: Complete command lines, as a user types them.
        options: As for ``click.command``.
    """
    return click.command(name, cls=Command, examples=examples, **options)


def _one_sentence(of: click.Command) -> str:
    """Return a command's short help, or the first paragraph of its help in one line."""
    return of.short_help or " ".join((of.help or "").split("\n\n")[0].split())


def _continued(line: str, width: int) -> str:
    """Return a command line, broken with backslashes before options so that it stays below a width."""
    import re
    from textwrap import wrap

    # An option stays with its value.
    joined = re.sub(r" (?!-)", "\0", line)
    lines = wrap(joined, max(width - 8, 40), break_long_words=False, break_on_hyphens=False)
    return " \\\n      ".join(lines).replace("\0", " ")
