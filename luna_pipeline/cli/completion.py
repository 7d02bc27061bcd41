"""Completion of commands, options and names in bash, zsh and fish, by click."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from luna_pipeline.cli.grouped import command

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]
SHELLS = ("bash", "zsh", "fish")
# In no configuration, and so of no kind of `luna list`.
GROUP_RULES = "luna_pipeline.core.sources.reader_groups:GROUP_RULES"
_PLACES = {
    "network.name": "networks",
    "loss.name": "losses",
    "optimizer.name": "optimizers",
    "scheduler.name": "schedulers",
}
_TUTORIAL_NAME = "classification"


class _Bash(BashComplete):
    """Completes PLACE=VALUE, which bash hands over as three words and replaces behind the ``=`` only."""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, incomplete = super().get_completion_args()
        joined: list[str] = []
        for word in [*words, incomplete]:
            if joined and (word == "=" or joined[-1].endswith("=")):
                joined[-1] += word
            else:
                joined.append(word)
        self._kept = joined[-1].partition("=")[0] + "=" if "=" in joined[-1] else ""
        return joined[:-1], joined[-1]

    def format_completion(self, item: CompletionItem[Any]) -> str:
        return f"{item.type},{item.value.removeprefix(self._kept)}"


add_completion_class(_Bash)


@command(
    "completion", "luna completion bash >> ~/.bashrc", "luna completion fish > ~/.config/fish/completions/luna.fish"
)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def completion_command(context: click.Context, *, shell: str | None) -> None:
    """Print the script that completes commands, options and names in a shell.

    SHELL is bash, zsh or fish; default: the shell that you use. Start a new
    shell afterwards.
    """
    used = Path(os.environ.get("SHELL", "")).name
    of_shell = get_completion_class(shell or (used if used in SHELLS else SHELLS[0]))
    assert of_shell is not None
    click.echo(of_shell(context.find_root().command, {}, "luna", "_LUNA_COMPLETE").source())


def registered(kind: str) -> Completer:
    """Return a completer of registered names, those of your extensions too.

    Args:
        kind: A kind of ``luna list``, or the place of a registry, ``module:NAME``; imported at the first completion.
    """
    return lambda _context, _parameter, incomplete: _items(_names(kind), incomplete)


def changes(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete PLACE=VALUE for the places of a configuration whose values are names."""
    places = {place: kind for place, kind in _PLACES.items() if f"{place}=".startswith(incomplete)}
    # Which place is meant is known: only then its names are needed.
    places = places or {place: kind for place, kind in _PLACES.items() if incomplete.startswith(f"{place}=")}
    return _items((f"{place}={name}" for place, kind in places.items() for name in _names(kind)), incomplete)


def checkpoints(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete the names of the models in LUNA_HOME; where none begins like this, names of files."""
    names = _folders("")
    found = _items([*names, _TUTORIAL_NAME] if names else [], incomplete)
    return found or [CompletionItem(incomplete, type="file")]


def versions_of(name: str) -> Completer:
    """Return a completer of the versions of the model that another argument names."""

    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        from luna_pipeline.launchers.training.initial_weights import full_name

        return _items(_folders(full_name(context.params.get(name) or "")), incomplete)

    return complete


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem[str]]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _names(kind: str) -> list[str]:
    from luna_pipeline.overview.registries import registry_of

    # A shell that completes a word must not show errors: the command itself explains them.
    try:
        return list(registry_of(kind).names())
    except (ImportError, OSError):
        return []


def _folders(below: str) -> list[str]:
    """Return the names of folders in LUNA_HOME's checkpoints; none in S3, which is too slow for a shell."""
    from luna_pipeline.settings import Settings

    try:
        folder = Settings.from_environment().checkpoints_dir / below
        return sorted(each.name for each in folder.iterdir() if each.is_dir()) if isinstance(folder, Path) else []
    except (OSError, ValueError):
        return []
