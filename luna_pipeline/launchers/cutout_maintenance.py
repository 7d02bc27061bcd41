"""Maintenance of the cutouts: verify, import from the original project's cache and export to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from luna_pipeline.core.ct.errors import failure_of
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.store import CutoutStore, DamagedCutoutsError
from luna_pipeline.core.storage.s3 import RemoteStoreError
from luna_pipeline.launchers.cutting import make_tables
from luna_pipeline.launchers.installation import cutout_store
from luna_pipeline.settings import Settings

Report = Callable[[str], Any]


def verify_cutouts(settings: Settings, *, repair: bool, report: Report) -> dict[str, str]:
    """Compare every byte of every cutout file.

    Args:
        settings: Paths of the installation.
        repair: Whether to remove damaged files, so that the next run cuts them again. What is no regular file, or is
            named otherwise than a cutout file, stays.
        report: Receives each line of the report.

    Returns:
        Reason of the damage by series; by name of what is no cutout file.

    Raises:
        FileNotFoundError: If there is nothing to verify.
    """
    store = cutout_store(settings)
    uids, odd = store.uids(), store.odd_entries()
    if not uids and not odd:
        msg = f"There must be cutout files to verify, got none (folder {settings.cutouts_dir})."
        raise FileNotFoundError(f"{msg} Run `luna create_cutouts`, or check LUNA_HOME.")
    damaged = {}
    for uid in uids:
        if (reason := _damage(store, uid)) is not None:
            report(reason)
            damaged[uid] = reason
            if repair:
                store.remove(uid)
    for reason in odd.values():
        report(reason)
    removed = f", {len(damaged)} removed; cut again to replace them" if damaged and repair else ""
    num_damaged = len(damaged) + len(odd)
    report(f"{len(uids) - len(damaged)} files are whole, {num_damaged} damaged{removed} ({settings.cutouts_dir}).")
    return damaged | odd


def _damage(store: CutoutStore, series_instance_uid: str) -> str | None:
    """Return why a file is damaged, None if it is whole; no file stops the others."""
    try:
        return store.check(series_instance_uid)
    except RemoteStoreError:
        raise
    except Exception as error:
        return failure_of(error, series_instance_uid)


def export_tutorial_cutouts(settings: Settings, folder: Path, *, report: Report) -> int:
    """Write all cutouts in the format of the original project's cache and return the number of files.

    Raises:
        ValueError: If files were left out because they are damaged; the others are written.
    """
    from luna_pipeline.core.cutouts.tutorial_cache import write_tutorial_cutouts

    store = cutout_store(settings)
    uids = store.uids()
    num_files, num_left_out = 0, 0
    for uid in uids:
        try:
            cutouts = store.read(uid)
        except DamagedCutoutsError as error:
            report(f"Left out {uid}: {error}")
            num_left_out += 1
        else:
            num_files += write_tutorial_cutouts(folder, cutouts)
    report(f"Wrote {num_files} files of {len(uids) - num_left_out} series to {folder}.")
    if num_left_out:
        msg = f"Every file of cutouts must be whole, got {num_left_out} that are not (in {settings.cutouts_dir})."
        raise ValueError(f"{msg} Cut these series again and export again.")
    return num_files


def import_tutorial_cutouts(settings: Settings, folder: Path, *, report: Report) -> list[str]:
    """Import each series of which the original project's cache has all candidates, and return those series."""
    from luna_pipeline.core.ct.catalogue import grid_of_row
    from luna_pipeline.core.cutouts.service import CtCutoutService
    from luna_pipeline.core.cutouts.tutorial_cache import read_tutorial_series

    store = cutout_store(settings)
    catalogue, candidates, _ = make_tables(settings, report)
    service = CtCutoutService(
        data_root=settings.data_dir,
        catalogue=catalogue,
        candidates=candidates,
        store=store,
        parameters=CuttingParameters(edge_rule="shift"),
    )
    imported = []
    for row in catalogue[catalogue["is_readable"]].to_dict("records"):
        uid = row["series_instance_uid"]
        if store.digest(uid) is not None:
            report(f"Left out {uid}: it was cut already. Remove its file to import the cache's.")
            continue
        try:
            cutouts = read_tutorial_series(folder, service.job(uid), grid_of_row(row))
        except ValueError as error:
            report(f"Left out {uid}: {error}")
            continue
        if cutouts is None:
            report(f"Left out {uid}: the cache lacks some of its {len(service.job(uid).candidate_id)} candidates.")
            continue
        store.write(uid, cutouts)
        imported.append(uid)
    report(f"Imported {len(imported)} series. They were cut by the rule `shift`: continue with --edge-rule shift.")
    return imported
