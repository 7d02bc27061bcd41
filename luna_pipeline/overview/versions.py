"""Trained versions: fold, recipe, score, date and path of each."""

import datetime
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from luna_pipeline.core.storage.files import listing, subfolders
from luna_pipeline.launchers.installation import checkpoint_store
from luna_pipeline.launchers.versions import fold_of_version
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.core.training.config import TrainingConfig

_KINDS: tuple[Literal["best", "last"], ...] = ("best", "last")
_MAX_CHANGES = 4
# What differs between runs of one recipe anyway.
_OWN_PLACES = {"version", "name", "seed", "start.version"}


def version_rows(settings: Settings) -> list[dict[str, Any]]:
    """Return the versions of all models, the newest first; one whose training is not over has its last checkpoint."""
    rows = [row for name in subfolders(settings.checkpoints_dir) for row in _versions_of(settings, name)]
    return sorted(rows, key=lambda row: str(row["made_at"]), reverse=True)


def _versions_of(settings: Settings, name: str) -> Iterator[dict[str, Any]]:
    store, files = checkpoint_store(settings), listing(settings.checkpoints_dir / name)
    for version in store.versions(name):
        kind = next((kind for kind in _KINDS if f"{version}/{kind}.pt" in files), None)
        if kind is not None:
            made = files[f"{version}/{kind}.pt"].modified_seconds
            yield {
                "model": name,
                "version": version,
                "fold": fold_of_version(version),
                **_content(store.path(name, version, kind)),
                "state": "complete" if kind == "best" else "unfinished",
                "made_at": f"{datetime.datetime.fromtimestamp(made):%Y-%m-%d %H:%M}",
                "path": str(store.path(name, version, kind)),
            }


def _content(path: Any) -> dict[str, Any]:
    from luna_pipeline.core.training.checkpoints import CheckpointError, load_checkpoint

    try:
        checkpoint = load_checkpoint(path)
    except (CheckpointError, OSError) as error:
        return {"recipe": f"unreadable: {' '.join(str(error).split())}", "epochs": None, "score": None}
    score = checkpoint.best_score
    return {
        "recipe": recipe_in_words(checkpoint.config),
        "epochs": checkpoint.epoch,
        # nan, which is no JSON, stands for a run without validation.
        "score": f"{checkpoint.config.score_name} {score:.4f}" if not math.isnan(score) else None,
    }


def recipe_in_words(config: "TrainingConfig") -> str:
    """Return the recipe that is nearest to a configuration, and what differs: ``demo with num_epochs=2``."""
    from luna_pipeline.core.training.recipes import RECIPES, recipe_by_name

    changes = {name: _changes(config, recipe_by_name(name)) for name in RECIPES.names()}
    name = min(changes, key=lambda one: len(changes[one]))
    different = changes[name]
    if not different:
        return name
    if len(different) > _MAX_CHANGES:
        return f"{name} with {len(different)} changes"
    return f"{name} with {', '.join(f'{place}={value}' for place, value in different.items())}"


def _changes(config: "TrainingConfig", recipe: "TrainingConfig") -> dict[str, Any]:
    own, theirs = config.flat(), recipe.flat()
    places = [place for place in own if place not in _OWN_PLACES and own[place] != theirs.get(place)]
    return {place: own[place] for place in places}
