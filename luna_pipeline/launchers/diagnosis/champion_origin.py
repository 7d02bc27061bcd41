"""Origin of the champions: whether it is known which scans they were trained on."""

from luna_pipeline.settings import Settings

NAMES = ("nodule_segmenter", "nodule_classifier", "malignancy_classifier")


def champions(settings: Settings) -> dict[str, str | None]:
    """Return why the origin of each champion in MLflow's registry is unknown, by its name; None if it is known.

    Raises:
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    from luna_pipeline.tracking.mlflow_registry import champion_of

    found: dict[str, str | None] = {}
    for name in NAMES:
        try:
            number = champion_of(settings.mlflow_tracking_uri, name)
        # Without a database there is no registry.
        except FileNotFoundError:
            return {}
        if number is not None:
            found[f"{name} {number}"] = _why_unknown(settings, name)
    return found


def _why_unknown(settings: Settings, name: str) -> str | None:
    from luna_pipeline.core.training.checkpoints import CheckpointError
    from luna_pipeline.tracking.mlflow_registry import CHAMPION, load_registered_checkpoint

    try:
        checkpoint = load_registered_checkpoint(settings.mlflow_tracking_uri, name, f"@{CHAMPION}")
    except (FileNotFoundError, CheckpointError) as error:
        return " ".join(str(error).split())
    title = f"{checkpoint.name} {checkpoint.version}"
    return f"{title} was trained elsewhere, on unknown scans" if checkpoint.has_unknown_origin else None
