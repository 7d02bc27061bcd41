"""Files that assets read while they are materialized in this process, by the assets that the files belong to."""

from pathlib import PurePath

import dagster as dg
import pytest

from luna_pipeline.assets.sources import SOURCE_TABLES
from luna_pipeline.definitions import defs
from luna_pipeline.launchers.installation import MODELS_TABLES

# Functions through which tables of the home, tables of LUNA16, and pointers to checkpoints are read.
READERS = (
    "luna_pipeline.launchers.installation.read_table_file",
    "luna_pipeline.core.candidates.csv_content.open_regular",
    "luna_pipeline.launchers.cross_validation.read_json_object",
)
_OF_SOURCE = {file: name for name, (files, _) in SOURCE_TABLES.items() for file in files}
_OF_MODELS = {models: name for name, models in MODELS_TABLES.items()}


def record_reads(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Return the assets whose files each asset reads from now on; inputs that Dagster loads are upstream anyway."""
    found: dict[str, set[str]] = {}
    for place in READERS:
        module, _, name = place.rpartition(".")
        read = getattr(__import__(module, fromlist=[name]), name)

        def read_and_record(path, *args, read=read, **kwargs):
            for reader in _running_assets():
                found.setdefault(reader, set()).add(asset_of(path))
            return read(path, *args, **kwargs)

        monkeypatch.setattr(place, read_and_record)
    return found


def asset_of(path: PurePath) -> str:
    """Asset of a source or a file: `<asset>.parquet`, `<asset>/<fold>.parquet`, `<asset>/current_<fold>.json`."""
    if path.name in _OF_SOURCE:
        return _OF_SOURCE[path.name]
    name = path.stem if path.parent.name == "tables" else path.parent.name
    return _OF_MODELS.get(name, name)


def not_upstream(reads: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return what assets have read of other assets than themselves and those directly upstream in the graph."""
    graph = defs.resolve_asset_graph()
    nodes = {name: graph.get(dg.AssetKey(name)) for name in reads}
    parents = {name: {key.path[-1] for key in node.parent_keys} for name, node in nodes.items()}
    for name, node in nodes.items():
        # One body makes these assets: what it reads for one of them is upstream of the others through that one.
        together = {key.path[-1] for key in node.execution_set_entity_keys if isinstance(key, dg.AssetKey)}
        for made in together & parents[name]:
            parents[name] |= parents[made]
    missing = {name: read - parents[name] - {name} for name, read in reads.items()}
    return {name: read for name, read in missing.items() if read}


def _running_assets() -> list[str]:
    try:
        context = dg.AssetExecutionContext.get()
    # Not within an asset: a check reads the tables of its own asset.
    except dg.DagsterInvariantViolationError:
        return []
    return [key.path[-1] for key in context.selected_asset_keys]
