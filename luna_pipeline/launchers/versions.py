"""Versions of runs and of their test folds."""

import re
from typing import TYPE_CHECKING

from luna_pipeline.core.storage.files import exists
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.core.training.config import TrainingConfig


_OWN_VERSION = re.compile(r"-fold\d+(\+\d+)?$")


def fold_version(version: str, fold: int) -> str:
    """Return what a version is called where this fold is left out of training: ``0.0.1-fold3``."""
    return f"{_OWN_VERSION.sub('', version)}-fold{fold}"


def own_version(settings: Settings, name: str, version: str, *, fold: int) -> str:
    """Return the newest complete build for this fold (``0.0.1-fold3`` of ``0.0.1``, or ``0.0.1-fold3+1``), if any.

    Args:
        settings: Where checkpoints lie.
        name: What was trained.
        version: Of any fold, or of none; the answer where there is none for this fold.
        fold: The fold left out of training.
    """
    from luna_pipeline.core.training.checkpoints import CheckpointStore

    store, build = CheckpointStore(settings.checkpoints_dir), re.escape(fold_version(version, fold)) + r"(\+\d+)?"
    newest_first = reversed([own for own in store.versions(name) if re.fullmatch(build, own)])
    return next((own for own in newest_first if exists(store.path(name, own))), version)


def recipe_digest(config: "TrainingConfig") -> str:
    """Return the identity of a configuration whatever its version and fold, 64 hexadecimal digits.

    Weights to begin with are another fold's for each fold; what they are called without it counts.
    """
    start = config.start.version
    places = {"version": "any"} | ({"start.version": _OWN_VERSION.sub("", start)} if start else {})
    return config.with_changes(places).digest
