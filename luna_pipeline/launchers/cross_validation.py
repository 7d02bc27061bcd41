"""Cross-validation: which classifier counts for which fold, which folds are pooled, and what their score is called."""

import datetime
import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from luna_pipeline.core.datasets.splits import index_fingerprint
from luna_pipeline.core.evaluation.fold_names import folds_in_words
from luna_pipeline.core.storage.files import exists, listing, read_bytes, write_bytes
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.core.storage.files import AnyPath
_POINTER = re.compile(r"current_(\d+)\.json")


@dataclass(frozen=True, kw_only=True)
class CurrentClassifier:
    """The classifier that counts for a fold, as ``checkpoints/<asset>/current_<fold>.json`` names it.

    Attributes:
        asset: What was trained.
        test_fold: The fold that it has not seen.
        version: Its version.
        path: Its checkpoint, relative to the home.
        sha256: Of that file.
        data_fingerprint: Identity of its training and validation data.
        recipe_digest: Identity of its configuration, whatever the fold, see ``recipe_digest``.
        index_digest: Identity of the whole cutout index at that time, all folds of it.
        dagster_run_id: The run that trained it.
        made_at: When it was handed over, UTC, ISO 8601.
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
        """Make it the one that counts."""
        content = json.dumps(asdict(self), indent=1, sort_keys=True).encode()
        write_bytes(_pointer(settings, self.asset, self.test_fold), content)


@dataclass(frozen=True, kw_only=True)
class PooledFolds:
    """Folds whose scores may be put together.

    Attributes:
        classifiers: Those that count, of one recipe and one cutout index, by rising fold.
        left_out: Why other folds are not among them, by fold.
        num_folds: Folds of the data.
    """

    classifiers: tuple[CurrentClassifier, ...]
    left_out: dict[int, str]
    num_folds: int

    @property
    def folds(self) -> list[int]:
        """The folds, rising."""
        return [classifier.test_fold for classifier in self.classifiers]

    @property
    def versions(self) -> str:
        """Versions of the classifiers, by rising fold: what a table of these folds was made of."""
        return ", ".join(classifier.version for classifier in self.classifiers)

    @property
    def title(self) -> str:
        """What a score of these folds is called: ``folds 0, 1 of 5``, or ``all 10 folds``."""
        return folds_in_words(self.folds, self.num_folds)


def now() -> str:
    """Return the time as ``CurrentClassifier.made_at`` holds it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def folds_of_data(settings: Settings) -> list[int]:
    """Return the folds of the cutout index, rising.

    Raises:
        FileNotFoundError: If there is no index yet.
    """
    return sorted(int(fold) for fold in read_table(settings, "cutout_index", columns=["fold"])["fold"].unique())


def chosen_folds(settings: Settings, folds: Collection[int], *, all_folds: bool) -> list[int]:
    """Return the folds that are asked for.

    Args:
        settings: Where the data are.
        folds: The test folds; none for the first of the data.
        all_folds: Whether none means all of the data instead.

    Raises:
        FileNotFoundError: If there is no cutout index yet.
        ValueError: If the data have no such fold, or less than two.
    """
    known = folds_of_data(settings)
    if len(known) < 2:
        msg = f"Training and test need at least two folds, got {known}. Add CTs, or folds for the ones there are."
        raise ValueError(msg)
    if unknown := sorted(set(folds) - set(known)):
        msg = f"A held-out fold must exist, got {unknown[0]} of folds {known}. Choose one of them."
        raise ValueError(msg)
    return sorted(set(folds)) or (known if all_folds else known[:1])


def read_current(settings: Settings, asset: str, fold: int) -> CurrentClassifier:
    """Return the classifier that counts for a fold.

    Raises:
        FileNotFoundError: If none was trained.
    """
    pointer = _pointer(settings, asset, fold)
    if not exists(pointer):
        msg = f"Classifier must be trained before it is used, got no {pointer.name} (in {pointer.parent}). "
        raise FileNotFoundError(f"{msg}Materialize `{asset}` of fold {fold} first.")
    return CurrentClassifier(**json.loads(read_bytes(pointer)))


def trained_folds(settings: Settings, asset: str) -> list[int]:
    """Return the folds for which there is a classifier, rising."""
    found = [_POINTER.fullmatch(name) for name in listing(settings.checkpoints_dir / asset)]
    return sorted(int(match[1]) for match in found if match)


def is_of_today(settings: Settings, pooled: PooledFolds) -> bool:
    """Return whether classifiers were trained on the cutout index that is there now."""
    return pooled.classifiers[0].index_digest == index_fingerprint(read_table(settings, "cutout_index"))


def pooled_folds(settings: Settings, asset: str) -> PooledFolds:
    """Find the folds whose classifiers are of the newest one's recipe and cutout index.

    Args:
        settings: Where everything lies.
        asset: `nodule_classifier` or `malignancy_classifier`.

    Raises:
        FileNotFoundError: If none was trained, or there is no cutout index.
    """
    trained = [read_current(settings, asset, fold) for fold in trained_folds(settings, asset)]
    if not trained:
        msg = f"Classifier must be trained before it is used, got none (in {settings.checkpoints_dir / asset}). "
        raise FileNotFoundError(f"{msg}Materialize `{asset}` of a fold first.")
    newest = max(trained, key=lambda classifier: classifier.made_at)
    reasons = {classifier.test_fold: _reason_to_leave_out(classifier, newest) for classifier in trained}
    return PooledFolds(
        classifiers=tuple(classifier for classifier in trained if not reasons[classifier.test_fold]),
        left_out={fold: reason for fold, reason in reasons.items() if reason},
        num_folds=len(folds_of_data(settings)),
    )


def _reason_to_leave_out(classifier: CurrentClassifier, newest: CurrentClassifier) -> str:
    if classifier.recipe_digest != newest.recipe_digest:
        return f"{classifier.version} is of another recipe than {newest.version}"
    if classifier.index_digest != newest.index_digest:
        return f"{classifier.version} was trained on another cutout index than {newest.version}"
    return ""


def _pointer(settings: Settings, asset: str, fold: int) -> "AnyPath":
    return settings.checkpoints_dir / asset / f"current_{fold}.json"
