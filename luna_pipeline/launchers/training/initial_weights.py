"""The weights that a run begins with: found by the tutorial's names too, in a file or in MLflow's registry."""

from luna_pipeline.core.datasets.splits import TrainingSplit
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore, load_checkpoint
from luna_pipeline.core.training.config import StartConfig, TrainingConfig

NODULE_CLASSIFIER, MALIGNANCY_CLASSIFIER = "nodule_classifier", "malignancy_classifier"
# The tutorial's names stand for what they trained.
ALIASES = {"classification": NODULE_CLASSIFIER, "malignant classification": MALIGNANCY_CLASSIFIER}


def full_name(name: str) -> str:
    """Return a run's name; the tutorial's names stand for the project's."""
    return ALIASES.get(name.lower().replace("_", " "), name)


def load_source(start: StartConfig, *, checkpoints: CheckpointStore, tracking_uri: str | None) -> Checkpoint:
    """Load the run whose weights another one begins with.

    Args:
        start: Where it is, its name and version.
        checkpoints: Where files lie.
        tracking_uri: Where MLflow is.

    Raises:
        FileNotFoundError: If there is no such run.
        CheckpointError: If its file is damaged, or none.
        ValueError: If it is to come from MLflow, and there is none.
    """
    name, version = str(start.name), str(start.version)
    if start.loader == "file":
        return load_checkpoint(checkpoints.path(name, version))
    from luna_pipeline.tracking.mlflow_registry import load_registered_checkpoint

    if tracking_uri is None:
        msg = f"Weights from MLflow must have its address, got none ({name} {version}). Set MLFLOW_TRACKING_URI."
        raise ValueError(msg)
    return load_registered_checkpoint(tracking_uri, name, version)


def continued(config: TrainingConfig, source: Checkpoint, *, loader: str, head_only: bool | None) -> TrainingConfig:
    """Return the configuration of a run that goes on from another one's weights.

    Args:
        config: What the run is to be.
        source: The run whose weights it begins with; its network is taken over.
        loader: Where the source was found.
        head_only: Whether the last layer alone learns; None lets it where the question is another one, for which the
            last layer begins anew in any case.
    """
    is_new_question = source.config.dataset != config.dataset
    is_head_alone = is_new_question if head_only is None else head_only
    start = StartConfig(loader=loader, name=source.name, version=source.version, new_head=is_new_question)
    frozen = config.frozen
    if is_head_alone:
        frozen = "backbone"
    elif head_only is False and frozen == "backbone":
        frozen = "nothing"
    return config.with_changes(network=source.config.network, start=start, frozen=frozen)


def check_unseen(source: Checkpoint, *, held_out: dict[str, set[str]], split: TrainingSplit) -> None:
    """Refuse weights that have learned from what is held out now: every score would be too good.

    Args:
        source: The run whose weights another one begins with.
        held_out: Series by part, ``test`` and ``validation``.
        split: The folds held out.

    Raises:
        ValueError: If it has seen them.
    """
    learned = {*source.training_series, *source.inherited_training_series}
    chosen_by = {*source.validation_series, *source.inherited_validation_series}
    leaks = {
        "the test fold": held_out["test"] & (learned | chosen_by),
        "the validation fold": held_out["validation"] & learned,
    }
    for part, series in leaks.items():
        if series:
            msg = (
                f"Weights to begin with must not have seen {part}, got {len(series)} such series (the first "
                f"{min(series)}, {source.name} {source.version}; test fold {split.test_fold}, validation fold "
                f"{split.validation_fold}). Hold out the folds that it held out."
            )
            raise ValueError(msg)
