"""Models of a test fold without training, in an installation."""

from dataclasses import replace

from luna_pipeline.core.storage.files import sha256_of
from luna_pipeline.core.training.checkpoints import CheckpointStore, save_checkpoint
from luna_pipeline.launchers.cross_validation import CurrentClassifier, now
from luna_pipeline.settings import Settings
from luna_pipeline_tests.diagnosis_models import checkpoint_of

OF_FOLD = "0.0.1-fold0"


def save_models_of_fold(settings: Settings, *, seen: dict[str, list[str]] | None = None) -> None:
    """Write segmenter and classifier as the current ones of fold 0, and newer ones of fold 1.

    Args:
        settings: The installation.
        seen: Training series by role.
    """
    store = CheckpointStore(settings.home / "checkpoints")
    for fold in (0, 1):
        for role in ("segmenter", "classifier"):
            series = (seen or {}).get(role, ["1.2.3"])
            checkpoint = replace(checkpoint_of(role, version=f"0.0.1-fold{fold}"), training_series=series)
            path = store.path(checkpoint.name, checkpoint.version)
            save_checkpoint(path, checkpoint)
            CurrentClassifier(
                asset=checkpoint.name,
                test_fold=fold,
                version=checkpoint.version,
                path=str(path.relative_to(settings.home)),
                sha256=sha256_of(path),
                data_fingerprint="",
                recipe_digest="",
                index_digest="",
                dagster_run_id="",
                made_at=now(),
            ).write(settings)
