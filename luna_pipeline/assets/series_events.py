"""Events of the series that a run cuts: one for each partition of `cutouts`."""

import logging
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets.data_versions import DATA_VERSION, inputs_since, made_before, provenance_tags
from luna_pipeline.assets.series_facts import BYTES_PER_MB, SeriesFacts
from luna_pipeline.partitions import FAILED, failed_series, versions_by_series
from luna_pipeline.runs.event_batches import EventBatch

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.cutouts.job import CutOutcome

CUTOUTS = "cutouts"
INPUTS = ("ct_series", "candidates")
CUTTING_CODE = "1"
"""Same as the core's ``CUTTING_CODE_VERSION``, whose import would slow down loading the definitions."""


class SeriesEvents:
    """Logs the outcome of each series as an event of its partition.

    Whether a file is current is decided by its header; Dagster's events only decide whether another event is needed.

    Args:
        context: Of the asset.
        batch: Stores the events and log lines.
        facts: What is shown of a series that was cut.
        is_news_only: Log only outcomes that differ from Dagster's latest event.
    """

    def __init__(
        self, context: dg.AssetExecutionContext, batch: EventBatch, facts: SeriesFacts, *, is_news_only: bool
    ) -> None:
        self._context = context
        self._batch = batch
        self._facts = facts
        self._is_news_only = is_news_only
        self._tags = provenance_tags(context.instance, INPUTS, code_version=CUTTING_CODE)
        self._known: dict[str, str] = {}

    def keep(self, digests: dict[str, str | None], asked: list[str] | None) -> set[str]:
        """Warn about removed CTs, and return the series whose cutouts are kept, given the digests of their files."""
        kept = {uid: digest for uid, digest in digests.items() if digest is not None}
        for uid in kept:
            line = f"The CT of series {uid} is gone; its cutouts are kept until `luna prune`."
            self._batch.log(logging.WARNING, line)
        for uid in set(kept).intersection(asked or ()):
            self._materialized(uid, str(kept[uid]), "kept")
        return set(kept)

    def plan(self, plan: "pd.DataFrame", needed_bytes: int, free_bytes: float) -> None:
        """Log the plan, and read the versions that Dagster has recorded."""
        states = plan["state"].value_counts().to_dict()
        self._context.log.info("%d series: %s; %d bytes needed, %s free", len(plan), states, needed_bytes, free_bytes)
        if self._is_news_only:
            uids = set(plan["series_instance_uid"])
            failed = failed_series(self._context.instance, CUTOUTS, uids)
            # An event from before its inputs changed would show a current series as unsynced.
            unsynced = made_before(self._context.instance, CUTOUTS, since=inputs_since(self._context.instance, INPUTS))
            self._known = versions_by_series(self._context.instance, CUTOUTS, uids - failed - unsynced)

    def record(self, outcome: "CutOutcome") -> None:
        """Log a series that was cut, or is current but not recorded in Dagster with its present inputs."""
        uid, is_cut = outcome.series_instance_uid, outcome.outcome == "cut"
        if is_cut or self._known.get(uid) != outcome.fingerprint:
            shown = {
                "num_candidates": outcome.num_candidates,
                "megabytes": round(outcome.num_bytes / BYTES_PER_MB, 2),
                "seconds": round(outcome.seconds, 3),
                # Pictures of current series would read all files after each edit of a table.
                **self._facts.of(uid, has_picture=is_cut),
            }
            self._materialized(uid, outcome.fingerprint, outcome.outcome, **shown)
        if is_cut:
            line = f"cut {uid}: {outcome.num_candidates} candidates in {outcome.seconds:.2f} s"
            self._batch.log(logging.INFO, line)
        self._batch.flush_if_due()

    def record_failure(self, uid: str, reason: str) -> None:
        """Log a series that could not be cut, see ``log_failed_series``."""
        log_failed_series(self._batch, CUTOUTS, uid, reason, is_planned=self._is_news_only)
        self._batch.flush_if_due()

    def _materialized(self, uid: str, fingerprint: str, outcome: str, **metadata: Any) -> None:
        self._batch.materialize(
            dg.AssetMaterialization(
                CUTOUTS,
                partition=uid,
                metadata={"outcome": outcome, **metadata},
                tags={DATA_VERSION: fingerprint, **self._tags},
            )
        )


def log_failed_series(batch: EventBatch, asset: str, uid: str, reason: str, *, is_planned: bool) -> None:
    """Log that an asset of a series failed; its reason is shown as the newest observation of its partition.

    Args:
        batch: Stores the events and log lines.
        asset: Name of the asset.
        uid: The series.
        reason: Why it failed.
        is_planned: Whether to log the plan, too. Dagster shows a partition as failed if a failed run had planned it,
            and a run over all series plans none by name.
    """
    if is_planned:
        batch.plan(asset, uid)
    batch.observe(dg.AssetObservation(asset, partition=uid, metadata={FAILED: reason}))
    batch.log(logging.ERROR, f"Series {uid} failed: {reason}")
