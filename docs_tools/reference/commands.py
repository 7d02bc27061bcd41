"""The page of the commands of ``luna``."""

from collections.abc import Iterator

import click

from docs_tools.markdown import code, plain, table
from luna_pipeline.cli import cli


def page() -> str:
    """Return the page, in the order of ``luna --help``."""
    lines = [
        "# Commands",
        "",
        "Every command of `luna`, grouped by task as in `luna --help`: what it does, how it is written, its options "
        "and examples. Words in capitals stand for your values; words in brackets may be left out.",
        "",
        "An exit code of 0 means success, 1 failure and 2 wrong usage. Errors are one line; "
        "`luna --debug COMMAND` also shows the traceback. See [error messages](errors/index.md).",
        "",
        *_options(cli),
    ]
    for title, names in cli.sections.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += _command(cli.commands[name], f"luna {name}")
    return "\n".join(lines)


def _command(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    yield f"### {path}"
    yield ""
    yield plain(command.help)
    yield ""
    yield "```text"
    yield " ".join([path, *command.collect_usage_pieces(context)])
    yield "```"
    yield ""
    yield from _options(command)
    if examples := getattr(command, "examples", ()):
        yield "Examples:"
        yield ""
        yield "```sh"
        yield from examples
        yield "```"
        yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _command(command.commands[name], f"{path} {name}")


def _options(command: click.Command) -> list[str]:
    options = [it for it in command.params if isinstance(it, click.Option) and not it.hidden]
    return table(("option", "meaning", "values", "default"), map(_row, options)) if options else []


def _row(option: click.Option) -> tuple[str, ...]:
    names = ", ".join(map(code, [*option.opts, *option.secondary_opts]))
    default = option.default if isinstance(option.default, str | int | float) else ""
    shown = "" if option.is_flag or default == "" else code(default)
    required = "required" if option.required else shown
    return names, plain(option.help), _values(option), required


def _values(option: click.Option) -> str:
    """Return what an option takes: words to choose from, a range, or the kind of its value."""
    kind = option.type
    if option.is_flag:
        return "flag"
    if isinstance(kind, click.Choice):
        return ", ".join(code(choice) for choice in kind.choices)
    if isinstance(kind, click.IntRange | click.FloatRange):
        low = "" if kind.min is None else f"{'>' if kind.min_open else '≥'} {kind.min}"
        high = "" if kind.max is None else f"{'<' if kind.max_open else '≤'} {kind.max}"
        return " and ".join(it for it in (low, high) if it) or kind.name.removesuffix(" range")
    repeated = ", repeatable" if option.multiple else ""
    return f"{option.metavar or kind.name}{repeated}"
