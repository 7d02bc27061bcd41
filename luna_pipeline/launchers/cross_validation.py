"""Cross-validation: the current classifier of each fold, and the folds that are pooled."""

import datetime
import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.datasets.splits import index_fingerprint
from luna_pipeline.core.evaluation.fold_names import folds_in_words
from luna_pipeline.core.storage.files import exists, listing, write_bytes
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.storage.files import AnyPath

CLASSIFIERS = ("nodule_classifier", "malignancy_classifier", "tuned_nodule_classifier", "nodule_segmenter")
OLDER = "was trained on other cutouts than the current ones, on which it is scored. Train it again."
_POINTER = re.compile(r"current_(\d+)\.json")


@dataclass(frozen=True, kw_only=True)
class CurrentClassifier:
    """The current classifier of a fold, stored as ``checkpoints/<asset>/current_<fold>.json``.

    Attributes:
        asset: Asset of the classifier.
        test_fold: Its test fold.
        version: Its version.
        path: Its checkpoint, relative to the home.
        sha256: SHA-256 of that file.
        data_fingerprint: Digest of its training and validation data.
        recipe_digest: Digest of its configuration without the fold, see ``launchers.versions.recipe_digest``.
        index_digest: Digest of the whole cutout index, with all folds, at that time.
        dagster_run_id: The run that trained it.
        made_at: Time of the handover, UTC, ISO 8601.
    """

    asset: str
    test_fold: int
    version: str
    path: str
    sha256: str
    data_fingerprint: str
    recipe_digest: str
    index_digest: str
    dagster_run_id: str
    made_at: str

    def write(self, settings: Settings) -> None:
        """Make it the current classifier of its fold."""
        content = json.dumps(asdict(self), indent=1, sort_keys=True).encode()
        write_bytes(_pointer(settings, self.asset, self.test_fold), content)


@dataclass(frozen=True, kw_only=True)
class PooledFolds:
    """Folds whose predictions are pooled.

    Attributes:
        classifiers: Current classifiers of one recipe and one cutout index, in ascending order of folds.
        left_out: Why other folds are left out, by fold.
        num_folds: Number of folds of the data.
    """

    classifiers: tuple[CurrentClassifier, ...]
    left_out: dict[int, str]
    num_folds: int

    @property
    def folds(self) -> list[int]:
        """Folds in ascending order."""
        return [classifier.test_fold for classifier in self.classifiers]

    @property
    def versions(self) -> str:
        """Versions of the classifiers, in ascending order of folds, as tables of these folds record them."""
        return ", ".join(classifier.version for classifier in self.classifiers)

    @property
    def title(self) -> str:
        """Name of the folds: ``folds 0, 1 of 5``, or ``all 10 folds``."""
        return folds_in_words(self.folds, self.num_folds)


def now() -> str:
    """Return the current time in the form of ``CurrentClassifier.made_at``."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def folds_of_data(settings: Settings, table: str = "cutout_index") -> list[int]:
    """Return the folds of the cutout index, or of the table `folds`, in ascending order.

    Raises:
        FileNotFoundError: If there is no such table yet.
    """
    return sorted(int(fold) for fold in read_table(settings, table, columns=["fold"])["fold"].unique())


def chosen_folds(
    settings: Settings, folds: Collection[int], *, all_folds: bool, table: str = "cutout_index"
) -> list[int]:
    """Return the selected test folds.

    Args:
        settings: Paths of the installation.
        folds: The test folds; empty for the first fold of the data.
        all_folds: Whether an empty selection means all folds instead.
        table: Table with the folds of the data, see ``folds_of_data``.

    Raises:
        FileNotFoundError: If there is no such table yet.
        ValueError: If the data do not have such a fold, or fewer than two.
    """
    known = folds_of_data(settings, table)
    if len(known) < 2:
        msg = f"Training and test need at least two folds, got {known}. Add CTs, or folds for the ones there are."
        raise ValueError(msg)
    if unknown := sorted(set(folds) - set(known)):
        msg = f"A held-out fold must exist, got {unknown[0]} of folds {known}. Choose one of them."
        raise ValueError(msg)
    return sorted(set(folds)) or (known if all_folds else known[:1])


def read_current(settings: Settings, asset: str, fold: int) -> CurrentClassifier:
    """Return the current classifier of a fold.

    Raises:
        FileNotFoundError: If none was trained.
    """
    pointer = _pointer(settings, asset, fold)
    if not exists(pointer):
        msg = f"Classifier must be trained before it is used, got no {pointer.name} (in {pointer.parent}). "
        raise FileNotFoundError(f"{msg}Materialize `{asset}` of fold {fold} first.")
    advice = f"Materialize `{asset}` of fold {fold} again."
    values = read_json_object(pointer, "The pointer to a classifier", advice=advice)
    try:
        return CurrentClassifier(**values)
    except TypeError as error:
        rule = f"The pointer to a classifier must hold its entries, got {sorted(values)!s:.200} ({pointer})."
        raise ValueError(f"{rule} {advice}") from error


def trained_folds(settings: Settings, asset: str) -> list[int]:
    """Return the folds with a current classifier in ascending order."""
    found = [_POINTER.fullmatch(name) for name in listing(settings.checkpoints_dir / asset)]
    return sorted(int(match[1]) for match in found if match)


def folds_with_classifier(settings: Settings) -> set[int]:
    """Return the folds with a current classifier of any asset."""
    return {fold for asset in CLASSIFIERS for fold in trained_folds(settings, asset)}


def uses_current_index(settings: Settings, pooled: PooledFolds) -> bool:
    """Return whether the classifiers were trained on the current cutout index."""
    return not describe_older(pooled.classifiers[0], read_table(settings, "cutout_index"))


def describe_older(classifier: CurrentClassifier, index: "pd.DataFrame") -> str:
    """Return that a classifier was trained on another index than this one; empty if it was not."""
    return "" if classifier.index_digest == index_fingerprint(index) else f"{classifier.version} {OLDER}"


def pooled_folds(settings: Settings, asset: str) -> PooledFolds:
    """Return the folds whose classifiers have the newest one's recipe and cutout index.

    Args:
        settings: Paths of the installation.
        asset: `nodule_classifier` or `malignancy_classifier`.

    Raises:
        FileNotFoundError: If no classifier was trained, or there is no cutout index.
    """
    trained = [read_current(settings, asset, fold) for fold in trained_folds(settings, asset)]
    if not trained:
        msg = f"Classifier must be trained before it is used, got none (in {settings.checkpoints_dir / asset}). "
        raise FileNotFoundError(f"{msg}Materialize `{asset}` of a fold first.")
    known = folds_of_data(settings)
    # A classifier of a fold that the data no longer have cannot be scored, even if it is the newest.
    candidates = [classifier for classifier in trained if classifier.test_fold in known]
    if not candidates:
        found = sorted(classifier.test_fold for classifier in trained)
        msg = f"A classifier must be of a fold of the data, {known}, got those of {found} ({asset})."
        raise FileNotFoundError(f"{msg} Materialize `{asset}` of a fold of the data.")
    newest = max(candidates, key=lambda classifier: classifier.made_at)
    reasons = {each.test_fold: _reason_to_leave_out(each, newest, known) for each in trained}
    return PooledFolds(
        classifiers=tuple(classifier for classifier in trained if not reasons[classifier.test_fold]),
        left_out={fold: reason for fold, reason in reasons.items() if reason},
        num_folds=len(known),
    )


def _reason_to_leave_out(classifier: CurrentClassifier, newest: CurrentClassifier, known: Collection[int]) -> str:
    if classifier.test_fold not in known:
        return f"{classifier.version} is of fold {classifier.test_fold}, which the data no longer have"
    if classifier.recipe_digest != newest.recipe_digest:
        return f"{classifier.version} is of another recipe than {newest.version}"
    if classifier.index_digest != newest.index_digest:
        return f"{classifier.version} was trained on another cutout index than {newest.version}"
    return ""


def _pointer(settings: Settings, asset: str, fold: int) -> "AnyPath":
    return settings.checkpoints_dir / asset / f"current_{fold}.json"
