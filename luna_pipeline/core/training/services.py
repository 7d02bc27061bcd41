"""Services of a run by their type, closed in the end whatever happens."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class ServiceContainer:
    """Holds one service a type; what was opened last is closed first.

    Use it under ``with``: a crash or an interrupt closes all services, and passes on.
    """

    def __init__(self) -> None:
        self._services: dict[type, Any] = {}
        self._creators: dict[type, tuple[Callable[..., Any], Callable[[Any], None] | None]] = {}
        # Each is told what went wrong so far, if anything did.
        self._closers: list[tuple[type, Callable[[BaseException | None], None]]] = []

    def register_service(self, service_type: type[T], value: T, *, on_close: Callable[[T], None] | None = None) -> None:
        """Take a service.

        Args:
            service_type: Type under which it is asked for.
            value: The service.
            on_close: Closes it; None where nothing has to be closed.

        Raises:
            ValueError: If there is one of that type already: it would never be closed.
        """
        self._check_is_free(service_type)
        self._add(service_type, value, on_close)

    def register_context(self, service_type: type[T], manager: AbstractContextManager[T]) -> T:
        """Enter a context manager and take what it gives; it is left with the error of the run, if there is one.

        Args:
            service_type: Type under which the service is asked for.
            manager: Opens and closes it.

        Raises:
            ValueError: If there is one of that type already.
        """
        self._check_is_free(service_type)
        value = manager.__enter__()
        self._services[service_type] = value
        self._closers.append((service_type, lambda error: _leave(manager, error)))
        return value

    def register_creator(
        self,
        service_type: type[T],
        creator: Callable[..., T],
        *,
        on_close: Callable[[T], None] | None = None,
    ) -> None:
        """Take a function that makes the service when ``call_all_creators`` is called.

        Args:
            service_type: Type under which it is asked for.
            creator: Makes it.
            on_close: Closes it, if it was made.

        Raises:
            ValueError: If there is one of that type already.
        """
        self._check_is_free(service_type)
        self._creators[service_type] = (creator, on_close)

    def call_all_creators(self, **arguments: Any) -> None:
        """Make all services that wait to be made, in the order of their registration, each once."""
        while self._creators:
            service_type = next(iter(self._creators))
            creator, on_close = self._creators[service_type]
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
        """Close the services, the last one first; each once, and also where another one fails to close.

        Args:
            error: What ended the run, if it was an error or an interrupt.

        Raises:
            BaseException: What the first of them that failed raised; the failures after it are its notes.
        """
        failure: BaseException | None = None
        while self._closers:
            service_type, close = self._closers.pop()
            try:
                close(error or failure)
            except BaseException as raised:
                if failure is None:
                    failure = raised
                else:
                    failure.add_note(f"Then closing {service_type.__name__} failed: {raised!r}")
        self._services.clear()
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close_all_services(error)

    def _add(self, service_type: type, value: Any, on_close: Callable[[Any], None] | None) -> None:
        self._services[service_type] = value
        if on_close is not None:
            self._closers.append((service_type, lambda _error: on_close(value)))

    def _check_is_free(self, service_type: type) -> None:
        if service_type in self._services or service_type in self._creators:
            msg = f"A type must have one service, got a second {service_type.__name__}."
            raise ValueError(f"{msg} Register a type of its own.")


def _leave(manager: AbstractContextManager[Any], error: BaseException | None) -> None:
    """Leave a context manager with the error; that it passes on the same one is no failure to close."""
    try:
        manager.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
    except BaseException as raised:
        if raised is not error:
            raise
