"""Environment variables that are set for a while."""

import contextlib
import os
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def environment_variables(values: Mapping[str, str], *, without: tuple[str, ...] = ()) -> Iterator[None]:
    """Set and remove variables of this process and its children; what they were is restored.

    Args:
        values: Variables that are set.
        without: Variables that are removed.
    """
    before = {name: os.environ.pop(name, None) for name in (*values, *without)}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
