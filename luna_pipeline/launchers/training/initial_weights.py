"""Initial weights of a run, from a checkpoint file or from MLflow's registry."""

from typing import TYPE_CHECKING

from luna_pipeline.core.training.config import StartConfig, TrainingConfig

if TYPE_CHECKING:
    from luna_pipeline.core.datasets.splits import TrainingSplit
    from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore

NODULE_CLASSIFIER, MALIGNANCY_CLASSIFIER = "nodule_classifier", "malignancy_classifier"
# The original project's names of the two classifiers.
ALIASES = {"classification": NODULE_CLASSIFIER, "malignant classification": MALIGNANCY_CLASSIFIER}


def full_name(name: str) -> str:
    """Return the project's name of a classifier for the original project's name; other names are unchanged."""
    return ALIASES.get(name.lower().replace("_", " "), name)


def load_source(start: StartConfig, *, checkpoints: "CheckpointStore", tracking_uri: str | None) -> "Checkpoint":
    """Load the run with the initial weights, from a checkpoint file or from MLflow at ``tracking_uri``.

    Raises:
        FileNotFoundError: If there is no such run.
        CheckpointError: If its file is damaged, or not a checkpoint.
        ValueError: If the loader is MLflow and there is no address.
    """
    name, version = str(start.name), str(start.version)
    if start.loader == "file":
        # A shell that completes names must not wait for torch.
        from luna_pipeline.core.training.checkpoints import load_checkpoint

        return load_checkpoint(checkpoints.path(name, version))
    from luna_pipeline.tracking.mlflow_registry import load_registered_checkpoint

    if tracking_uri is None:
        msg = f"Weights from MLflow must have its address, got none ({name} {version}). Set MLFLOW_TRACKING_URI."
        raise ValueError(msg)
    return load_registered_checkpoint(tracking_uri, name, version)


def continued(config: TrainingConfig, source: "Checkpoint", *, loader: str, head_only: bool | None) -> TrainingConfig:
    """Return the configuration of a run with another run's weights.

    For another task, with other labels, the last layer is re-initialized.

    Args:
        config: Configuration of the run.
        source: The run with the initial weights; its network is adopted.
        loader: Where the source was loaded from, ``file`` or ``mlflow``.
        head_only: Whether to train the last layer only; None trains it only for another task.
    """
    is_new_task = source.config.dataset != config.dataset
    is_head_only = is_new_task if head_only is None else head_only
    start = StartConfig(loader=loader, name=source.name, version=source.version, new_head=is_new_task)
    frozen = config.frozen
    if is_head_only:
        frozen = "backbone"
    elif head_only is False and frozen == "backbone":
        frozen = "nothing"
    return config.with_changes(network=source.config.network, start=start, frozen=frozen)


def check_unseen(source: "Checkpoint", *, held_out: dict[str, set[str]], split: "TrainingSplit") -> None:
    """Reject initial weights that were trained on held-out series: every score would be too high.

    Args:
        source: The run with the initial weights.
        held_out: Held-out series by part, ``test`` and ``validation``.
        split: The held-out folds.

    Raises:
        ValueError: If the run has seen held-out series.
    """
    trained_on = {*source.training_series, *source.inherited_training_series}
    validated_on = {*source.validation_series, *source.inherited_validation_series}
    leaks = {
        "the test fold": held_out["test"] & (trained_on | validated_on),
        "the validation fold": held_out["validation"] & trained_on,
    }
    for part, series in leaks.items():
        if series:
            msg = (
                f"Weights to begin with must not have seen {part}, got {len(series)} such series (the first "
                f"{min(series)}, {source.name} {source.version}; test fold {split.test_fold}, validation fold "
                f"{split.validation_fold}). Hold out the folds that it held out."
            )
            raise ValueError(msg)
