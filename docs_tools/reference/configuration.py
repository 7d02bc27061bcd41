"""The page of every key of every configuration."""

from collections.abc import Iterator
from typing import Any

from docs_tools.markdown import cell, code, plain, table
from docs_tools.reference.configured import Value, allowed_of, kind_of, ranges_of, shown, values_of
from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.cutouts.cutting import EDGE_RULES, CuttingParameters
from luna_pipeline.core.cutouts.selection import CandidateSelection
from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.ratios import MalignantRatio, NoduleRatio, PlaceRatio
from luna_pipeline.core.diagnosis.recipes import DIAGNOSIS_RECIPES, DiagnosisRecipe
from luna_pipeline.core.networks.config import LOSSES, NETWORKS
from luna_pipeline.core.training.config import MODELS, TRAINERS, TrainingConfig
from luna_pipeline.core.training.parts import OPTIMIZERS, SCHEDULERS
from luna_pipeline.core.training.recipes import RECIPES, recipe_by_name
from luna_pipeline.definitions import RESOURCES, defs
from luna_pipeline.serving.config import Peer, ServiceConfig

HEADER = ("key", "meaning", "default", "allowed")
_REGISTRIES: dict[str, Registry[Any]] = {
    "dataset": DATASETS,
    "model": MODELS,
    "trainer": TRAINERS,
    "network.name": NETWORKS,
    "loss.name": LOSSES,
    "optimizer.name": OPTIMIZERS,
    "scheduler.name": SCHEDULERS,
}
_RATIOS = (NoduleRatio(), MalignantRatio(), PlaceRatio())
_WITH_LIMITS = {"clipping.norm": 1.0, "clipping.value": 1.0, "early_stopping.patience": 1}
_TYPES = {"Int": "integer", "Bool": "true or false", "Float": "number", "String": "text"}


def page() -> str:
    """Return the page."""
    return "\n".join([*_head(), *_training(), *_cutting(), *_diagnosis(), *_service(), *_dagster()])


def _head() -> list[str]:
    return [
        "# Configuration",
        "",
        "Every key that changes what a run does, with its meaning, default and allowed values. A key with a "
        "dot is inside a part: `network.dropout_rate` is the value `dropout_rate` of the part `network`.",
        "",
        "You set keys of a training with `--set KEY=VALUE` on the command line, as `changes` in Dagster's "
        "launchpad, or with `recipe.with_changes({...})` in Python. A wrong key or value is refused before anything "
        "runs.",
        "",
    ]


def training_values() -> list[Value]:
    """Return the values of a training's configuration; the ratio's are apart, because they depend on the data set."""
    config = TrainingConfig()
    ranges = ranges_of(config.with_changes(_WITH_LIMITS))
    ranges |= {place: ", ".join(map(code, it.names())) for place, it in _REGISTRIES.items()}
    return [it for it in values_of(config, ranges) if not it.place.startswith("ratio.")]


def ratio_values() -> dict[str, list[Value]]:
    """Return the values of each kind of ratio, by its class's name."""
    return {type(it).__name__: list(values_of(it, ranges_of(it), "ratio.")) for it in _RATIOS}


def _training() -> Iterator[str]:
    yield from ("## Training", "")
    yield (
        "`TrainingConfig`: everything that affects the result of a training. The defaults are those of the class; a "
        "recipe changes some of them, see below."
    )
    yield ""
    yield from table(HEADER, (it.row() for it in training_values()))
    yield from ("### Ratio of the classes", "")
    yield (
        "`ratio` holds numbers for the groups of the data set: out of their sum, each stretch of training samples "
        "has so many of each group."
    )
    yield ""
    for values in ratio_values().values():
        yield from table(HEADER, (it.row() for it in values))
    yield from ("### Recipes", "")
    yield from ("Complete configurations by name. Each table has the values that are not the defaults.", "")
    default = TrainingConfig().flat()
    for name in RECIPES.names():
        if RECIPES.is_own(name):
            continue
        purpose = plain(RECIPES.get(name).__doc__).partition("\n")[0].removeprefix("Return the ")
        yield from (f"#### {name}", "", purpose[0].upper() + purpose[1:], "")
        own = {place: value for place, value in recipe_by_name(name).flat().items() if value != default.get(place)}
        rows = [(code(place), code(shown(value)), _of_defaults(default, place)) for place, value in own.items()]
        yield from table(("key", "value", "default"), rows)


def _of_defaults(default: dict[str, Any], place: str) -> str:
    return code(shown(default[place])) if place in default else ""


def _cutting() -> Iterator[str]:
    ranges = {
        "edge_rule": ", ".join(map(code, EDGE_RULES)),
        "chunk_shape_irc": "each ≥ 1",
        "hu_window": "rising, of 16 bits",
        "resampled_spacing_mm": "each > 0",
        "training_length": "≥ 1",
        "max_negatives_per_series": "≥ 0",
        "seed": "≥ 0",
    }
    yield from ("## Cutting", "")
    yield (
        "What determines the voxels of a cutout, and which candidates are cut. On the command line: `luna "
        "create_cutouts`; in Dagster: the resource `cutting` below."
    )
    yield ""
    both = (*values_of(CuttingParameters(), ranges), *values_of(CandidateSelection(), ranges))
    yield from table(HEADER, (it.row() for it in both))


def diagnosis_values() -> list[Value]:
    """Return the values of a diagnosis's recipe."""
    recipe = DiagnosisRecipe()
    return list(values_of(recipe, ranges_of(recipe)))


def _diagnosis() -> Iterator[str]:
    yield from ("## Diagnosis", "")
    yield (
        "How a CT is searched. Set keys with `luna diagnose --set KEY=VALUE`, or as `changes` in the launchpad. "
        "Research use only."
    )
    yield ""
    yield from table(HEADER, (it.row() for it in diagnosis_values()))
    recipes = {name: DIAGNOSIS_RECIPES.get(name)() for name in DIAGNOSIS_RECIPES.names()}
    rows = [
        (code(it.place), *(code(shown(getattr(recipe, it.place))) for recipe in recipes.values()))
        for it in diagnosis_values()
        if len({getattr(recipe, it.place) for recipe in recipes.values()}) > 1
    ]
    yield from ("The recipes differ in:", "")
    yield from table(("key", *map(code, recipes)), rows)


def service_values() -> list[Value]:
    """Return the values of the service's configuration, those of a peer last."""
    config = ServiceConfig()
    peer = Peer(name="NAME", kind="cstore")
    every = [*values_of(config, ranges_of(config)), *values_of(peer, ranges_of(peer), "peers[].")]
    return [it for it in every if it.place != "peers"]


def _service() -> Iterator[str]:
    yield from ("## Service", "")
    yield "Keys of the YAML file of `luna serve --config` and `luna receive --config`; start from "
    yield from (
        "[config/serving.yaml](../files/config/serving.yaml). `peers[]` is a list; each entry has these keys.",
        "",
    )
    yield from table(HEADER, (it.row() for it in service_values()))


def _dagster() -> Iterator[str]:
    yield from ("## Dagster: assets and operations", "")
    yield (
        "Keys of the launchpad below `ops: NAME: config:`. Jobs that run an asset inside another one have "
        "operations of their own, such as `nodule_classifier_fold_by_fold`, with the same keys."
    )
    yield ""
    for names, config_fields in configured_ops():
        yield from ("### " + ", ".join(names), "")
        yield from table(HEADER, map(_field_row, config_fields.items()))
    yield from ("## Dagster: resources", "")
    yield from ("Keys of the launchpad below `resources: NAME: config:`; they hold for all assets of a run.", "")
    for name, resource in RESOURCES.items():
        own = {key: it for key, it in getattr(type(resource), "model_fields", {}).items() if it.description}
        if own:
            yield from (f"### {name}", "")
            rows = (
                (code(key), plain(it.description), code(shown(it.default)), _annotation(it)) for key, it in own.items()
            )
            yield from table(HEADER, rows)


def _annotation(field: Any) -> str:
    return cell(kind_of(field.annotation))


def configured_ops() -> list[tuple[list[str], dict[str, Any]]]:
    """Return the assets and operations that have keys; those with equal keys together."""
    found: dict[str, dict[str, Any]] = {}
    for job in defs.get_repository_def().get_all_jobs():
        for node in job.nodes:
            schema = getattr(node.definition, "config_schema", None)
            own = getattr(schema.config_type, "fields", None) if schema is not None else None
            if own:
                found[node.definition.name] = dict(own)
    groups: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for name, own in sorted(found.items()):
        key = repr([(each, it.description, _kind(it), _default(it)) for each, it in sorted(own.items())])
        groups.setdefault(key, ([], own))[0].append(name)
    return list(groups.values())


def _field_row(item: tuple[str, Any]) -> tuple[str, ...]:
    name, field = item
    kind = _inner(field)
    words = [it.config_value for it in getattr(kind, "enum_values", [])]
    allowed = allowed_of(_kind(field), ", ".join(map(code, words)))
    return code(name), plain(field.description), _default(field), allowed


def _inner(field: Any) -> Any:
    """Return the type of a key, without the outer one that allows none."""
    kind = field.config_type
    return kind.inner_type if kind.kind.name == "NONEABLE" else kind


def _kind(field: Any) -> str:
    kind = _inner(field)
    if kind.kind.name == "ENUM":
        return "word"
    if kind.kind.name == "ARRAY":
        return "list"
    name = type(kind).__name__ + str(kind.given_name or kind.key)
    return next((word for part, word in _TYPES.items() if part in name), "mapping")


def _default(field: Any) -> str:
    if not field.is_required and field.default_provided:
        value = field.default_value
        return code(shown(getattr(value, "name", value)))
    return "required" if field.is_required else "`null`"
