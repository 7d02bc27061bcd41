"""Parts that are chosen by name: the project's own, and those that a user registers in a file of his own."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and what they stand for.

    The project's own parts are named by their place and imported when they are asked for, so that a name can be
    checked without waiting for torch.

    Attributes:
        kind: What the parts are, for messages: ``network``.
    """

    def __init__(self, kind: str, own: Mapping[str, str] | None = None) -> None:
        """Begin with the project's own parts.

        Args:
            kind: What the parts are.
            own: Their places by name, ``package.module:attribute``.
        """
        self.kind = kind
        self._places = dict(own or {})
        self._parts: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Take the decorated class or function under a name.

        Raises:
            ValueError: If the name is taken.
        """
        if name in self.names():
            msg = f"The {self.kind}'s name must be new, got {name!r}, which is taken. Choose another name."
            raise ValueError(msg)

        def take(part: T) -> T:
            self._parts[name] = part
            return part

        return take

    def names(self) -> tuple[str, ...]:
        """Return all names, the project's own first."""
        return (*self._places, *self._parts)

    def check(self, name: str) -> None:
        """Refuse an unknown name.

        Raises:
            ValueError: If nothing is registered under it.
        """
        if name not in self.names():
            msg = (
                f"The {self.kind} must be one of {', '.join(self.names())}, got {name!r}. Choose one of them, or name "
            )
            raise ValueError(f"{msg}the file that registers it in LUNA_EXTENSIONS.")

    def get(self, name: str) -> T:
        """Return the part of that name.

        Raises:
            ValueError: If nothing is registered under it.
        """
        self.check(name)
        if name in self._parts:
            return self._parts[name]
        module, _, attribute = self._places[name].partition(":")
        part: Any = getattr(import_module(module), attribute)
        return part  # type: ignore[no-any-return]

    def forget(self, name: str) -> None:
        """Give a registered name up; the project's own parts stay."""
        self._parts.pop(name, None)
