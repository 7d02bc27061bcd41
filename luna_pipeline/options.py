"""Options that the command line and Dagster share, each declared once as a field of a dataclass.

``click_options`` makes options of a command of these fields, ``config_class`` a config for Dagster's launchpad. Neither
click nor Dagster is imported before it is needed: ``luna --help`` takes 0.1 s.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar, get_args

NOT_COMPARABLE = "Scores of a sample are too good (too few false positives), and are marked as not comparable."
Declared = TypeVar("Declared")


def option(
    default: Any,
    description: str,
    *,
    flag: str | None = None,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
) -> Any:
    """Declare a field that is an option.

    Args:
        default: Its default; a default None is explained by the description.
        description: Shown by ``--help`` and in the launchpad.
        flag: Option of the command line; default: ``--`` and the field's name.
        choices: Allowed words.
        at_least: Smallest allowed number.
        above: Excluded lower bound of a number.
    """
    bounds = {"min": at_least if above is None else above, "min_open": above is not None}
    return field(default=default, metadata={"help": description, "flag": flag, "choices": choices, "bounds": bounds})


def click_options(declared: type, *names: str, shell_complete: Mapping[str, Any] | None = None) -> list[Any]:
    """Return the decorators that give a command the options of a dataclass, or those of these names.

    Args:
        declared: The dataclass.
        names: Fields; none for all.
        shell_complete: Completes values in a shell, by field.
    """
    import click

    made = []
    for each in (each for each in fields(declared) if not names or each.name in names):
        kind, choices = (get_args(each.type) or (each.type,))[0], each.metadata["choices"]
        numbers = {int: click.IntRange, float: click.FloatRange}
        limited: Any = click.Choice(choices) if choices else None
        if kind in numbers:
            limited = numbers[kind](**each.metadata["bounds"])
        name = each.metadata["flag"] or f"--{each.name.replace('_', '-')}"
        how: dict[str, Any] = {"is_flag": True}
        if kind is not bool:
            how = {"type": limited, "show_default": each.default is not None}
        how["shell_complete"] = (shell_complete or {}).get(each.name)
        made.append(click.option(name, each.name, default=each.default, help=each.metadata["help"], **how))
    return made


def config_class(declared: type, describe: Callable[[str, str], str] = lambda name, description: description) -> Any:
    """Return a Dagster config class with the fields of a dataclass.

    Args:
        declared: The dataclass.
        describe: Returns the description of a field, given its name and its description on the command line.
    """
    import dagster as dg
    import pydantic

    made = {
        each.name: (
            _config_kind(each),
            pydantic.Field(description=describe(each.name, each.metadata["help"]), **_config_field(each)),
        )
        for each in fields(declared)
    }
    return pydantic.create_model(declared.__name__, __base__=dg.Config, **made)  # type: ignore[call-overload]


def _config_kind(declared: Field[Any]) -> Any:
    """Return the type of a field in Dagster's config: words to choose from become its enum."""
    from luna_pipeline.choices import one_of

    choices = declared.metadata["choices"]
    if not choices:
        return declared.type
    return one_of(choices) if declared.default is not None else one_of(choices) | None


def _config_field(declared: Field[Any]) -> dict[str, Any]:
    """Return default and limit of a field in Dagster's config."""
    bounds = declared.metadata["bounds"]
    limit = {} if bounds["min"] is None else {"gt" if bounds["min_open"] else "ge": bounds["min"]}
    return {"default": declared.default, **limit}


def options_of(declared: type[Declared], values: Mapping[str, Any]) -> Declared:
    """Return an instance of a dataclass of options with those of the values that are its own."""
    return declared(**{each.name: values[each.name] for each in fields(declared)})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What a training run changes in its recipe, and how it runs."""

    epochs: int | None = option(None, "Number of epochs. Default: the recipe's.", at_least=1)
    batch_size: int | None = option(
        None, "Samples of a batch, over all processes together. Default: the recipe's.", at_least=1
    )
    seed: int | None = option(None, "Seed of weights, sampling and augmentation. Default: the recipe's.", at_least=0)
    profile: bool = option(False, "Trace some training steps and print the ten most expensive operators.")

    @property
    def changes(self) -> dict[str, Any]:
        """Values of the configuration by place; None keeps the recipe's."""
        return {"num_epochs": self.epochs, "batch_size": self.batch_size, "seed": self.seed}
