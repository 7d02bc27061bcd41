"""Services of a run by their type, closed in reverse order at its end."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class ServiceContainer:
    """Holds one service of each type and closes them in reverse order when its ``with`` block ends.

    An error or interrupt of the run closes all services and is raised again. If a service fails to close, the others
    are still closed; failures after the first error are added to it as notes.
    """

    def __init__(self) -> None:
        self._services: dict[type, Any] = {}
        self._creators: dict[type, tuple[Callable[..., Any], Callable[[Any], None] | None]] = {}
        self._stack = ExitStack()

    def register_service(self, service_type: type[T], value: T, *, on_close: Callable[[T], None] | None = None) -> None:
        """Add a service, which ``on_close`` closes; a second service of a type is a ValueError."""
        self._check_is_free(service_type)
        self._add(service_type, value, on_close)

    def register_context(self, service_type: type[T], manager: AbstractContextManager[T]) -> T:
        """Enter a context manager and add its value; it exits with the error of the run, if any."""
        self._check_is_free(service_type)
        value = self._services[service_type] = manager.__enter__()
        self._push(service_type, manager.__exit__)
        return value

    def register_creator(
        self, service_type: type[T], creator: Callable[..., T], *, on_close: Callable[[T], None] | None = None
    ) -> None:
        """Add a function that creates a service in ``call_all_creators``; ``on_close`` closes the created service."""
        self._check_is_free(service_type)
        self._creators[service_type] = (creator, on_close)

    def call_all_creators(self, **arguments: Any) -> None:
        """Create the remaining services, once each, in the order of their registration."""
        for service_type, (creator, on_close) in list(self._creators.items()):
            self._add(service_type, creator(**arguments), on_close)
            del self._creators[service_type]

    def get_service(self, service_type: type[T]) -> T:
        """Return the service of a type.

        Raises:
            KeyError: If there is none (yet).
        """
        if service_type not in self._services:
            known = ", ".join(sorted(known.__name__ for known in self._services)) or "none"
            msg = f"A service must be there before it is used, got no {service_type.__name__} (there: {known})."
            raise KeyError(f"{msg} Register it, or call its creator.")
        service: T = self._services[service_type]
        return service

    def close_all_services(self, error: BaseException | None = None) -> None:
        """Close the services in reverse order, once each.

        Args:
            error: The error or interrupt that ended the run, if any.

        Raises:
            BaseException: The first failure to close, if ``error`` is None; later failures are its notes.
        """
        self._services.clear()
        self._stack.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close_all_services(error)

    def _add(self, service_type: type, value: Any, on_close: Callable[[Any], None] | None) -> None:
        self._services[service_type] = value
        if on_close is not None:
            self._push(service_type, lambda *_error: on_close(value))

    def _push(self, service_type: type, close: Callable[..., Any]) -> None:
        def close_with(
            kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            try:
                close(kind, error, trace)
            except BaseException as failure:
                if error is None:
                    raise
                if failure is not error:
                    error.add_note(f"Then closing {service_type.__name__} failed: {failure!r}")

        self._stack.push(close_with)

    def _check_is_free(self, service_type: type) -> None:
        if service_type in self._services or service_type in self._creators:
            msg = f"A type must have one service, got a second {service_type.__name__}."
            raise ValueError(f"{msg} Register a type of its own.")
