"""State of an installation: what is made, what is stale, what failed and why."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.storage.files import exists
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.overview import made_in_files
from luna_pipeline.overview.states import AssetState, Status
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

NUM_FAILED_RUNS = 5
_NUM_NAMED = 3


def status_of(settings: Settings, dagster_home: Path | None) -> Status:
    """Return the state of an installation.

    Args:
        settings: Paths of the installation.
        dagster_home: Folder of Dagster's history; None to read the state from files.
    """
    status = Status(
        home=str(settings.home),
        dagster_home=str(dagster_home) if dagster_home else None,
        is_synthetic=settings.is_synthetic,
        assets=[],
    )
    if dagster_home is None:
        status.assets = made_in_files.asset_states(settings)
        _add_stale(settings, status, None)
        return status
    import dagster as dg

    from luna_pipeline.overview import made_in_dagster

    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        status.assets = made_in_dagster.asset_states(instance)
        status.checks = made_in_dagster.failed_checks(instance)
        status.in_progress = made_in_dagster.runs_in_progress(instance)
        status.failed_runs = made_in_dagster.last_failed_runs(instance, NUM_FAILED_RUNS)
        status.automations = made_in_dagster.automations(instance)
        _add_stale(settings, status, instance)
    return status


def _add_stale(settings: Settings, status: Status, instance: "dg.DagsterInstance | None") -> None:
    """Add what the files themselves show: changed inputs, series that would be cut again, unreadable series."""
    of = {state.name: state for state in status.assets}
    if not exists(settings.tables_dir / "ct_series.parquet") or not exists(settings.tables_dir / "candidates.parquet"):
        return
    with _noted(status, "Whether inputs have changed"):
        _add_changed_inputs(settings, of, instance)
    with _noted(status, "Which series would be cut again"):
        _add_outdated_cutouts(of, is_in_files=instance is None)
    with _noted(status, "Which classifiers are of other cutouts"):
        _add_outdated_classifiers(settings, of)
    with _noted(status, "Which series are unreadable"):
        from luna_pipeline.core.ct.catalogue import unreadable_series

        reasons = unreadable_series(read_table(settings, "ct_series"))
        status.unreadable = {uid: " ".join(str(reason).split()) for uid, reason in reasons.items()}


@contextlib.contextmanager
def _noted(status: Status, question: str) -> Iterator[None]:
    """Note an error as a question without an answer: the rest of the state is still shown."""
    try:
        yield
    except Exception as error:
        status.notes.append(f"{question} is unknown: {' '.join(str(error).split()) or type(error).__name__}")


def _add_changed_inputs(settings: Settings, of: dict[str, AssetState], instance: Any) -> None:
    from luna_pipeline.launchers.data_sources import outdated_tables
    from luna_pipeline.outdated import inputs_digest, recorded_digests
    from luna_pipeline.resources import LunaPaths

    if instance is not None and settings.data_dir.is_dir():
        recorded = recorded_digests(instance)
        if recorded != {inputs_digest(LunaPaths())}:
            for name in ("ct_series", "candidates"):
                of[name].stale.append("files below LUNA_DATA_DIR have changed since")
    if reason := outdated_tables(settings):
        of["candidates"].stale.append(reason)


def _add_outdated_cutouts(of: dict[str, AssetState], *, is_in_files: bool) -> None:
    from luna_pipeline.outdated import is_indexed, outdated_series
    from luna_pipeline.resources import CutoutCutting, LunaPaths

    paths = LunaPaths()
    cutting = CutoutCutting(paths=paths)
    if is_in_files:
        of["cutouts"].num_partitions = len(cutting.service().uids)
    plan = outdated_series(cutting)
    for state, rows in plan[plan["state"] != "missing"].groupby("state"):
        named = "; ".join(f"{row.series_instance_uid}: {row.why}" for row in rows.head(_NUM_NAMED).itertuples())
        more = f"; and {len(rows) - _NUM_NAMED} more" if len(rows) > _NUM_NAMED else ""
        of["cutouts"].stale.append(f"{len(rows)} series {state} ({named}{more})")
    num_missing = int((plan["state"] == "missing").sum())
    if num_missing and of["cutouts"].num_made:
        of["cutouts"].stale.append(f"{num_missing} series have no file")
    if of["cutout_index"].num_made and not is_indexed(cutting, paths):
        of["cutout_index"].stale.append("the cutouts are newer")


def _add_outdated_classifiers(settings: Settings, of: dict[str, AssetState]) -> None:
    from luna_pipeline.launchers.cross_validation import CLASSIFIERS, describe_older, read_current, trained_folds

    if not exists(settings.tables_dir / "cutout_index.parquet"):
        return
    index = read_table(settings, "cutout_index")
    for asset in CLASSIFIERS:
        # The segmenter is trained on CTs, not on cutouts.
        for fold in trained_folds(settings, asset) if asset != "nodule_segmenter" else ():
            if describe_older(read_current(settings, asset, fold), index):
                of[asset].stale.append(f"fold {fold} was trained on other cutouts")
