"""Removal of what is no longer there: cutouts, and Dagster's partitions of series, folds and incoming series."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.storage.files import exists
from luna_pipeline.launchers.cutting import catalogue_of
from luna_pipeline.launchers.installation import cutout_store, read_table
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import dagster as dg


@dataclass
class Gone:
    """What the data root no longer has, sorted.

    Attributes:
        cutouts: Series with a cutout file.
        series: Series with a partition.
        folds: Test folds with a partition.
        incoming: Incoming series with a partition; their diagnoses are kept.
        kept: What each series or fold that must stay is used by; the lists above have none of these.
    """

    cutouts: list[str]
    series: list[str] = field(default_factory=list)
    folds: list[str] = field(default_factory=list)
    incoming: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    def keep(self, used: dict[str, str]) -> None:
        """Move series and folds that are in use to ``kept``."""
        gone = {*self.cutouts, *self.series, *self.folds, *self.incoming}
        self.kept = {key: user for key, user in sorted(used.items()) if key in gone}
        for keys in (self.cutouts, self.series, self.folds, self.incoming):
            keys[:] = [key for key in keys if key not in self.kept]


def prune(
    settings: Settings,
    *,
    is_removed: bool,
    report: Callable[[str], Any],
    instance: "dg.DagsterInstance | None" = None,
) -> Gone:
    """Find cutouts and partitions of series, and partitions of folds, that are no longer in the data root.

    Those of a backfill or run in progress are kept. Of a fold only the partition is removed.

    Args:
        settings: Paths of the installation.
        is_removed: Whether to remove them, and temporary files of killed writers.
        report: Receives each line of the report.
        instance: Dagster's instance; None if there is none, which is reported.
    """
    # Cutouts of a series that cannot be read at the moment are kept.
    catalogue, _ = catalogue_of(settings)
    store, present = cutout_store(settings), set(catalogue["series_instance_uid"])
    gone = Gone(_sorted(store.uids(), present))
    if instance is not None:
        _find_partitions(gone, settings, instance, present)
    verb = "Removed" if is_removed else "Would remove"
    for uid in gone.cutouts:
        report(f"{verb} {store.path(uid)} ({store.num_bytes(uid)} bytes)")
    for name, keys in {"series": gone.series, "fold": gone.folds, "incoming series": gone.incoming}.items():
        for key in keys:
            report(f"{verb} the partition of {name} {key}")
    for key, user in gone.kept.items():
        report(f"Kept {key}: {user} has it. Prune again when that has ended.")
    if is_removed:
        for uid in gone.cutouts:
            store.remove(uid)
        store.sweep()
        if instance is not None:
            _forget(gone, instance)
    elif gone.cutouts or gone.series or gone.folds or gone.incoming:
        report("Add --yes to remove them.")
    if instance is None:
        report("Dagster's partitions were not compared, because DAGSTER_HOME is not set.")
    report(f"{len({*gone.cutouts, *gone.series})} series without a CT below {settings.data_dir}.")
    return gone


def _sorted(keys: Iterable[str], present: set[str]) -> list[str]:
    return sorted(set(keys) - present)


def _find_partitions(gone: Gone, settings: Settings, instance: "dg.DagsterInstance", present: set[str]) -> None:
    from luna_pipeline.launchers.diagnosis.incoming import gone_incoming
    from luna_pipeline.partitions import CT_SERIES_NAME, INCOMING_SERIES_NAME, gone_folds, partitions_in_use

    gone.series = _sorted(instance.get_dynamic_partitions(CT_SERIES_NAME), present)
    # Without the table nothing is known of the folds.
    if exists(settings.tables_dir / "folds.parquet"):
        gone.folds = gone_folds(instance, read_table(settings, "folds")["fold"])
    known = instance.get_dynamic_partitions(INCOMING_SERIES_NAME)
    gone.incoming = gone_incoming(settings, known) if known else []
    gone.keep(partitions_in_use(instance))


def _forget(gone: Gone, instance: "dg.DagsterInstance") -> None:
    from luna_pipeline.partitions import INCOMING_SERIES_NAME, forget_folds, forget_series

    forget_series(instance, gone.series)
    forget_series(instance, gone.incoming, INCOMING_SERIES_NAME)
    forget_folds(instance, gone.folds)
