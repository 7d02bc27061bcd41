"""Words to choose from in Dagster's launchpad, such as the names of a registry with those of your extensions."""

import enum
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from luna_pipeline.extensions import load_extensions

if TYPE_CHECKING:
    from luna_pipeline.core.config.registry import Registry


class _Word(enum.Enum):
    """Base class: an enum in Dagster's schema, whose page offers its words; any text in Python.

    A name that is registered after the definitions were loaded can so be used from Python. Whether a text is allowed
    is checked by ``check_values`` of the configuration.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.str_schema()


def one_of(words: Iterable[str]) -> Any:
    """Return the type of a config field with a word of these, as ``one_of(words) | None`` where it may be left out.

    Its name lists the words, because Dagster's message on a wrong word contains nothing but the type's name.
    """
    chosen, make = list(words), cast(Any, _Word)
    return make(f"one of {', '.join(chosen)}", {word: word for word in chosen})


def names_of(registry: "Registry[Any]", *more: str) -> Any:
    """Return the type of a config field that names a part of a registry or is one of ``more``.

    The parts of extensions are among them.
    """
    try:
        load_extensions()
    except (FileNotFoundError, ImportError) as error:
        # The pages must load all the same: a run that needs the extension fails with the same message.
        warnings.warn(str(error), stacklevel=2)
    return one_of([*more, *registry.names()])
