"""Checks of configured values when a run is launched, before it exists.

Dagster's schema has kinds of values and words to choose from, but no ranges, and a ``dg.Config`` is validated when its
op starts. A run's configuration is processed before the run is created, which calls each ``ConfigType.post_process``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import BaseModel, ValidationError


class ConfigValueError(ValueError):
    """A configured value that is not allowed; the run is not created."""


def check_at_launch(definitions: Iterable[Any], resources: Mapping[str, Any]) -> None:
    """Check the configuration of ops, assets and resources when a run is launched.

    A configuration or resource may have a method ``check_values`` that raises a ValueError or TypeError.

    Args:
        definitions: Assets and jobs; other definitions are ignored.
        resources: Resources by key.
    """
    for name, op in _ops(definitions):
        config_type = config_type_of(op)
        if config_type is not None:
            _install(op.config_schema.config_type, name, config_type)
    for key, resource in resources.items():
        if isinstance(resource, dg.ConfigurableResource):
            schema = resource.get_resource_definition().config_schema
            _install(schema.config_type, key, _with_its_resources(resource))


def config_type_of(op: dg.OpDefinition) -> type[dg.Config] | None:
    """Return the class of an op's configuration, None if it has none."""
    function = getattr(op.compute_fn, "decorated_fn", None)
    annotation = getattr(function, "__annotations__", {}).get("config")
    return annotation if isinstance(annotation, type) and issubclass(annotation, dg.Config) else None


def _ops(definitions: Iterable[Any]) -> Iterator[tuple[str, dg.OpDefinition]]:
    """Yield each op with its name in run configurations."""
    for each in definitions:
        if isinstance(each, dg.AssetsDefinition) and each.is_executable:
            yield each.op.name, each.op
        elif isinstance(each, dg.JobDefinition):
            nodes = ((node.name, node.definition) for node in each.graph.nodes)
            yield from ((name, op) for name, op in nodes if isinstance(op, dg.OpDefinition))


def _with_its_resources(resource: Any) -> Callable[..., Any]:
    own = {name: value for name, value in resource if isinstance(value, dg.ConfigurableResource)}
    return lambda **values: type(resource)(**own, **values)


def _install(config_type: Any, owner: str, make: Callable[..., Any]) -> None:
    def post_process(values: Any) -> Any:
        try:
            made: BaseModel = make(**values)
            getattr(made, "check_values", lambda: None)()
        except ValidationError as error:
            raise ConfigValueError("; ".join(_line(each, owner) for each in error.errors())) from None
        except (ValueError, TypeError) as error:
            raise ConfigValueError(f"{' '.join(str(error).split())} (configuration of {owner})") from error
        return values

    config_type.post_process = post_process


def _line(error: Any, owner: str) -> str:
    place = ".".join(map(str, error["loc"]))
    rule = error["msg"].removeprefix("Input should ").removeprefix("Value error, ")
    return f"{place} must {rule}, got {error['input']!r} (configuration of {owner}). Change {place}."
