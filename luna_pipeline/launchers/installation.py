"""What every launcher takes from an installation: paths, tables, stores, the MLflow experiment."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pandas as pd

from luna_pipeline.core.storage.files import content_of, exists
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import MlflowRun, OpenMlflowRun, mlflow_run

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.cutouts.store import CutoutStore

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    pass


EXPERIMENT = "luna_pipeline"


def read_index(settings: Settings) -> pd.DataFrame:
    """Return the cutout index of an installation.

    Raises:
        FileNotFoundError: If nothing was cut yet.
    """
    path = settings.tables_dir / "cutout_index.parquet"
    if not exists(path):
        msg = f"Cutouts must be there to train on, got no {path.name} (in {path.parent})."
        raise FileNotFoundError(f"{msg} Run `luna create_cutouts`, or materialize `cutout_index`.")
    return pd.read_parquet(content_of(path))


def mlflow_opener(settings: Settings) -> OpenMlflowRun:
    """Return what opens an MLflow run of this installation."""

    def open_run(name: str, run_id: str | None) -> AbstractContextManager[MlflowRun]:
        return mlflow_run(
            settings.mlflow_tracking_uri,
            experiment=EXPERIMENT,
            artifact_location=settings.artifact_location,
            run_name=name,
            run_id=run_id,
        )

    return open_run


def cutout_store(settings: Settings, *, is_synced: bool = True) -> "CutoutStore":
    """Return the store of an installation."""
    from luna_pipeline.core.cutouts.store import CutoutStore
    from luna_pipeline.core.storage.cache import LocalCopies

    return CutoutStore(settings.cutouts_dir, copies=LocalCopies(settings.cache_dir), is_synced=is_synced)


def read_table(
    settings: Settings, name: str, fold: int | None = None, *, columns: list[str] | None = None
) -> pd.DataFrame:
    """Read a table that an asset made.

    Args:
        settings: Where everything lies.
        name: The asset.
        fold: Its partition, where it is made fold by fold.
        columns: Those that are wanted; None for all.

    Raises:
        FileNotFoundError: If it was never made.
    """
    place = name if fold is None else f"{name}/{fold}"
    path = settings.tables_dir / f"{place}.parquet"
    if not exists(path):
        msg = f"Table must be made before it is read, got no {path.name} (in {path.parent}). "
        raise FileNotFoundError(f"{msg}Materialize `{name}`{'' if fold is None else f' of fold {fold}'} first.")
    return pd.read_parquet(content_of(path), columns=columns)
