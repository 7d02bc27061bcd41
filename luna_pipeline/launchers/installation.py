"""Paths, tables, stores and the MLflow experiment of an installation, for all launchers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.storage.table_files import read_table_file
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import NOTE_TAG, MlflowRun, OpenMlflowRun, mlflow_run
from luna_pipeline.tracking.source_code import source_tags

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.cutouts.store import CutoutSource, CutoutStore
    from luna_pipeline.core.storage.files import AnyPath
    from luna_pipeline.core.training.checkpoints import CheckpointStore

EXPERIMENT = "luna_pipeline"
DAGSTER_PAGE_TAG = "dagster_run_url"
"""Tag of an MLflow run: the page of the Dagster run that made it."""
MODELS_TABLES = {
    "feature_baseline": "feature_baseline_models",
    "malignancy_feature_baseline": "malignancy_feature_baseline_models",
    "nodule_predictions": "nodule_models",
    "malignancy_predictions": "malignancy_models",
}
"""Second table of each asset that scores test folds: the models that scored the fold, one per row."""


def read_index(settings: Settings) -> pd.DataFrame:
    """Return the cutout index.

    Raises:
        FileNotFoundError: If nothing has been cut yet.
    """
    path = settings.tables_dir / "cutout_index.parquet"
    if not exists(path):
        msg = f"Cutouts must be there to train on, got no {path.name} (in {path.parent})."
        raise FileNotFoundError(f"{msg} Run `luna create_cutouts`, or materialize `cutout_index`.")
    return read_table(settings, "cutout_index")


def read_table(
    settings: Settings, name: str, fold: int | None = None, *, columns: list[str] | None = None
) -> pd.DataFrame:
    """Return the table of the asset ``name``, or of one of its folds; only some columns if they are named.

    A table of ``MODELS_TABLES`` is read by its own name.

    Raises:
        FileNotFoundError: If the asset was never materialized.
    """
    asset = next((made_by for made_by, models in MODELS_TABLES.items() if models == name), name)
    path = settings.tables_dir / f"{name if fold is None else f'{name}/{fold}'}.parquet"
    if not exists(path):
        msg = f"Table must be made before it is read, got no {path.name} (in {path.parent})."
        raise FileNotFoundError(f"{msg} Materialize `{asset}`{'' if fold is None else f' of fold {fold}'} first.")
    return read_table_file(path, columns=columns, advice=f"Materialize `{asset}` again.")


def sample_of(settings: Settings, index: pd.DataFrame) -> str:
    """Return how many of the candidates of its series an index holds, in words; empty for all (`describe_sample`)."""
    from luna_pipeline.core.cutouts.index import describe_sample

    columns = ["candidate_id", "series_instance_uid", "source"]
    return describe_sample(index, read_table(settings, "candidates", columns=columns))


def cutout_store(settings: Settings, *, is_synced: bool = True) -> CutoutStore:
    """Return the store of the cutout files; ``is_synced`` flushes each file to the disk."""
    from luna_pipeline.core.storage.cache import LocalCopies

    copies = LocalCopies(settings.cache_dir)
    return cutouts_in(settings, settings.cutouts_dir, copies=copies, is_synced=is_synced)


def cutouts_in(settings: Settings, folder: AnyPath, **options: Any) -> CutoutStore:
    """Return a store of any folder of cutout files; what was verified in it is recorded in ``local_home``."""
    from luna_pipeline.core.cutouts.store import CutoutStore
    from luna_pipeline.core.cutouts.verified_files import VerifiedFiles

    verified = VerifiedFiles(settings.local_home / "verified_cutouts.txt") if settings.verifies_reads else None
    return CutoutStore(folder, verified=verified, **options)


def cutout_source(settings: Settings, cutouts: str = "stored") -> CutoutSource:
    """Return the source of the chunks of the cutout index.

    Args:
        settings: Paths of the installation.
        cutouts: ``stored`` reads the cutout files; ``on_the_fly`` cuts from the raw CTs below ``LUNA_DATA_DIR``.

    Raises:
        FileNotFoundError: If there is no index, or a table that it is made of is missing.
        ValueError: If ``cutouts`` is neither of the two.
    """
    if cutouts == "stored":
        return cutout_store(settings)
    if cutouts != "on_the_fly":
        msg = f"Cutouts must be stored or on_the_fly, got {cutouts!r}. Choose one of them."
        raise ValueError(msg)
    from luna_pipeline.core.cutouts.cutting import CuttingParameters
    from luna_pipeline.core.cutouts.index import PARAMETERS
    from luna_pipeline.core.cutouts.on_the_fly import UncutSeries
    from luna_pipeline.core.cutouts.service import CtCutoutService

    index, candidates = read_index(settings), read_table(settings, "candidates")
    service = CtCutoutService(
        data_root=settings.data_dir,
        catalogue=read_table(settings, "ct_series"),
        candidates=candidates[candidates["candidate_id"].isin(index["candidate_id"])],
        store=cutout_store(settings),
        # An index of an earlier version has none; the fingerprints show whether the default ones are right.
        parameters=CuttingParameters(**index.attrs.get(PARAMETERS, {})),
    )
    return UncutSeries(service)


def checkpoint_store(settings: Settings) -> CheckpointStore:
    """Return the store of the checkpoints, ``<home>/checkpoints/<name>/<version>``."""
    from luna_pipeline.core.training.checkpoints import CheckpointStore

    return CheckpointStore(settings.checkpoints_dir, locks=settings.local_home / "checkpoints")


def open_mlflow_run(
    settings: Settings,
    *,
    experiment: str = EXPERIMENT,
    source: str = "",
    tags: Mapping[str, str] | None = None,
    **options: Any,
) -> AbstractContextManager[MlflowRun]:
    """Open a run of the installation in MLflow, tagged with its source and the kind of its data.

    Args:
        settings: The installation.
        experiment: Name of the experiment.
        source: What makes the run, see `source_tags`.
        tags: Further tags of the run. If they link a Dagster run, its page is in the run's description.
        options: Further options of `mlflow_run`.
    """
    tags = {**source_tags(source), "luna.data": settings.kind_of_data, **(tags or {})}
    if page := tags.get(DAGSTER_PAGE_TAG):
        tags[NOTE_TAG] = f"[Run in Dagster]({page})"
    return mlflow_run(
        settings.mlflow_tracking_uri,
        experiment=experiment,
        artifact_location=settings.artifact_location,
        tags=tags,
        **options,
    )


def mlflow_opener(settings: Settings, **options: Any) -> OpenMlflowRun:
    """Return a function that opens a run by its name, or continues the run with an id, see `open_mlflow_run`."""
    return lambda name, run_id: open_mlflow_run(settings, run_name=name, run_id=run_id, **options)
