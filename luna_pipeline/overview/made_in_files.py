"""What lies below LUNA_HOME, for installations without Dagster's history."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from luna_pipeline.core.storage.files import listing
from luna_pipeline.overview.graph import ASSETS, CLASSIFIERS
from luna_pipeline.overview.states import AssetState
from luna_pipeline.partitions import TEST_FOLD_NAME
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.core.storage.s3 import FileStatus


def asset_states(settings: Settings) -> list[AssetState]:
    """Return the state of each asset by its files."""
    tables, cutouts = listing(settings.tables_dir), listing(settings.cutouts_dir)
    diagnoses = listing(settings.diagnoses_dir)
    states = []
    for name, partitions in ASSETS.items():
        if name == "cutouts":
            files = [status for path, status in cutouts.items() if path.endswith(".npz")]
        elif name in CLASSIFIERS:
            # Also versions that the command line trained, which are of no fold.
            made = listing(settings.checkpoints_dir / name)
            files = [status for path, status in made.items() if path.endswith("/best.pt")]
        elif name in ("lungs", "diagnosis"):
            ends = "/lungs/lungs.nrrd" if name == "lungs" else "/report.html"
            files = [status for path, status in diagnoses.items() if path.endswith(ends)]
        elif partitions == TEST_FOLD_NAME:
            files = [status for path, status in tables.items() if path.startswith(f"{name}/")]
        else:
            files = [tables[f"{name}.parquet"]] if f"{name}.parquet" in tables else []
        states.append(AssetState(name, num_made=len(files), made_at=_newest(files)))
    return states


def _newest(files: "Iterable[FileStatus]") -> str:
    seconds = max((status.modified_seconds for status in files), default=None)
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
