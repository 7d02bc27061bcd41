"""Names that a configuration can hold, each with a sentence."""

import ast
import importlib.util
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from luna_pipeline.core.config.registry import Registry

REGISTRIES = {
    "recipes": "luna_pipeline.core.training.recipes:RECIPES",
    "networks": "luna_pipeline.core.networks.config:NETWORKS",
    "losses": "luna_pipeline.core.networks.config:LOSSES",
    "optimizers": "luna_pipeline.core.training.parts:OPTIMIZERS",
    "schedulers": "luna_pipeline.core.training.parts:SCHEDULERS",
    "datasets": "luna_pipeline.core.datasets.config:DATASETS",
    "models": "luna_pipeline.core.training.config:MODELS",
    "trainers": "luna_pipeline.core.training.config:TRAINERS",
    "handlers": "luna_pipeline.tracking.handlers:HANDLERS",
    "search_spaces": "luna_pipeline.tuning.space:SPACES",
    "estimators": "luna_pipeline.core.baselines.feature_model:ESTIMATORS",
    "sources": "luna_pipeline.core.sources.source:DATA_SOURCES",
    "malignancy_policies": "luna_pipeline.core.candidates.malignancy:MALIGNANCY_POLICIES",
    "diagnosis_recipes": "luna_pipeline.core.diagnosis.recipes:DIAGNOSIS_RECIPES",
}
"""Registry of each kind of names."""
_VERB = re.compile(r"^(Return|Build) ")


def rows_of(kind: str) -> list[dict[str, Any]]:
    """Return name, description and origin of each part of a kind; those of LUNA_EXTENSIONS are loaded first."""
    registry = registry_of(kind)
    return [
        {"name": name, "description": description_of(registry, name), "origin": _origin_of(registry, name)}
        for name in registry.names()
    ]


def registry_of(kind: str) -> Registry[Any]:
    """Return the registry of a kind, or of ``module:NAME``; the parts of LUNA_EXTENSIONS are loaded first."""
    from luna_pipeline.extensions import load_extensions

    load_extensions()
    module, _, attribute = REGISTRIES.get(kind, kind).partition(":")
    return getattr(import_module(module), attribute)  # type: ignore[no-any-return]


def description_of(registry: Registry[Any], name: str) -> str:
    """Return the first sentence of a part's docstring; the source of the project's parts is not executed."""
    place = registry.place_of(name)
    text = inspect.getdoc(registry.get(name)) if place is None else _docstring_at(place)
    sentence = _VERB.sub("", " ".join((text or "").partition("\n\n")[0].split()))
    return sentence[:1].upper() + sentence[1:]


def _docstring_at(place: str) -> str | None:
    """Return the docstring at ``package.module:attribute`` from its file: importing torch or MONAI takes seconds."""
    module, _, attribute = place.partition(":")
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return None
    for node in ast.parse(Path(found.origin).read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == attribute:
            return ast.get_docstring(node)
    return None


def _origin_of(registry: Registry[Any], name: str) -> str:
    return "extension" if registry.is_own(name) else "project"
