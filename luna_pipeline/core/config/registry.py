"""Registry of named parts: those of the project and those registered by a user's extension."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Parts by name. The project's parts are imported on first use, so that a name can be checked without torch.

    Attributes:
        kind: Kind of the parts in messages, such as ``network``.
    """

    def __init__(self, kind: str, own: Mapping[str, str] | None = None) -> None:
        """Register the project's parts.

        Args:
            kind: Kind of the parts.
            own: ``package.module:attribute`` of each part by name.
        """
        self.kind = kind
        self._places = dict(own or {})
        self._parts: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a class or function.

        Raises:
            ValueError: If the name is taken.
            TypeError: If it is not a text, as without parentheses: ``@NETWORKS.register``.
        """
        if not isinstance(name, str) or not name:
            msg = f"The {self.kind}'s name must be a text, got {name!r:.80}."
            raise TypeError(f'{msg} Write @....register("name").')
        if name in self.names():
            msg = f"The {self.kind}'s name must be new, got {name!r}, which is taken. Choose another name."
            raise ValueError(msg)

        def take(part: T) -> T:
            self._parts[name] = part
            return part

        return take

    def names(self) -> tuple[str, ...]:
        """Return all names, those of the project first."""
        return (*self._places, *self._parts)

    def check(self, name: str) -> None:
        """Raise ValueError if nothing is registered under a name."""
        if name not in self.names():
            msg = (
                f"The {self.kind} must be one of {', '.join(self.names())}, got {name!r}. Choose one of them, or name "
            )
            raise ValueError(f"{msg}the file that registers it in LUNA_EXTENSIONS.")

    def get(self, name: str) -> T:
        """Return the part of a name; raise ValueError if there is none."""
        self.check(name)
        if name in self._parts:
            return self._parts[name]
        module, _, attribute = self._places[name].partition(":")
        part: Any = getattr(import_module(module), attribute)
        return part  # type: ignore[no-any-return]

    def place_of(self, name: str) -> str | None:
        """Return ``package.module:attribute`` of a part of the project, None of an extension's."""
        return self._places.get(name)

    def is_own(self, name: str) -> bool:
        """Return whether a user's extension registered the part of a name."""
        return name in self._parts

    def name_of(self, part: T) -> str | None:
        """Return the name under which an extension registered a part, None if none did."""
        return next((name for name, registered in self._parts.items() if registered is part), None)

    def forget(self, name: str) -> None:
        """Remove a registered name; the project's parts stay."""
        self._parts.pop(name, None)
