"""Pages of the site that are made from the code, by their place in the site."""

from collections.abc import Callable

PAGES: dict[str, Callable[[], str]] = {}
