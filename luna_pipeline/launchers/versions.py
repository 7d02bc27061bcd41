"""Versions of one classifier per test fold: ``0.0.1-fold3`` and its next build ``0.0.1-fold3+1``."""

import re
from typing import TYPE_CHECKING

from luna_pipeline.core.storage.files import exists
from luna_pipeline.launchers.installation import checkpoint_store
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.core.training.config import TrainingConfig

_FOLD_AND_BUILD = re.compile(r"-fold(\d+)(\+\d+)?$")


def fold_version(version: str, fold: int) -> str:
    """Return the version for a test fold: ``0.0.1-fold3`` for ``0.0.1``, and for the version of another fold."""
    return f"{_FOLD_AND_BUILD.sub('', version)}-fold{fold}"


def fold_of_version(version: str) -> int | None:
    """Return the test fold of a version; None of a version without one."""
    found = _FOLD_AND_BUILD.search(version)
    return int(found[1]) if found else None


def own_version(settings: Settings, name: str, version: str, *, fold: int) -> str:
    """Return the newest complete build of a version for a test fold; ``version`` itself if there is none.

    Args:
        settings: Paths of the installation.
        name: Name of the classifier.
        version: A version of any fold, or without a fold.
        fold: The test fold.
    """
    store, build = checkpoint_store(settings), re.compile(re.escape(fold_version(version, fold)) + r"(\+\d+)?")
    newest_first = (own for own in reversed(store.versions(name)) if build.fullmatch(own))
    return next((own for own in newest_first if exists(store.path(name, own))), version)


def recipe_digest(config: "TrainingConfig") -> str:
    """Return the digest of a configuration without its version and fold, 64 hexadecimal digits.

    The version of the initial weights counts without its fold.
    """
    start = config.start.version
    places = {"version": "any"} | ({"start.version": _FOLD_AND_BUILD.sub("", start)} if start else {})
    return config.with_changes(places).digest
