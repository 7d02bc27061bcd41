"""Stage 6: diagnosis of incoming CTs, one partition per series."""

import hashlib
import logging
from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.events import DagsterEvent

from luna_pipeline.assets.data_versions import DATA_VERSION, provenance_tags
from luna_pipeline.assets.diagnosis_config import DiagnosisConfig
from luna_pipeline.assets.diagnosis_events import (
    ASSETS,
    COMPLETE,
    DIAGNOSIS,
    GONE,
    LUNGS,
    READABLE,
    complete_result,
    diagnosis_metadata,
    evaluation_of,
    gone_result,
    lungs_metadata,
    readable_result,
    series_left,
)
from luna_pipeline.assets.series_events import log_failed_series
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.partitions import (
    FAILED,
    INCOMING_SERIES,
    INCOMING_SERIES_NAME,
    IS_TRANSIENT,
    register_series,
)
from luna_pipeline.resources import LunaPaths
from luna_pipeline.runs.event_batches import EventBatch

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.launchers.diagnosis.incoming_diagnosis import ModelChoice
    from luna_pipeline.settings import Settings

GROUP = "stage_6_diagnosis"
CODE_VERSION = "1"
CHECKS = {
    READABLE: "Everything in LUNA_INCOMING_DIR can be diagnosed. If it fails: repair or remove the files that are "
    "named.",
    GONE: "Every registered series is in LUNA_INCOMING_DIR. If it fails: restore the CTs, or delete their partitions "
    "on Dagster's page.",
    COMPLETE: "No diagnosis failed; else the reason of each. If it fails: fix or remove the CTs that are named, and "
    "run `diagnose` again.",
}

# Events are logged for each series, so that a broken series fails alone: the assets are skippable.
_spec = partial(
    dg.AssetSpec,
    partitions_def=INCOMING_SERIES,
    skippable=True,
    group_name=GROUP,
    owners=OWNERS,
    code_version=CODE_VERSION,
)


@dg.multi_asset(
    name="diagnose_series",
    pool="diagnosis",
    can_subset=True,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=20),
    specs=[
        _spec(
            LUNGS,
            kinds={"python", "simpleitk"},
            description="Lung mask of an incoming CT: `diagnoses/<series uid>/lungs/lungs.nrrd` on the CT's grid, and "
            "its picture. Found by thresholds and components. Fails with the reason if the CT shows no lungs. Research "
            "use only.",
        ),
        _spec(
            DIAGNOSIS,
            kinds={"python", "pytorch"},
            deps=[LUNGS, "champion"],
            description="Nodules found in an incoming CT: `diagnoses/<series uid>/` holds the outputs of `luna "
            "diagnose`: report.html, nodules.csv, nodules.json, montage.png, for DICOM input seg.dcm and sr.dcm, and "
            "diagnosis.json. Without a partition, the series without a diagnosis of their present files are diagnosed. "
            "Another champion diagnoses nothing again by itself: run `diagnose` with `only_outdated`. Research use "
            "only.",
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(name, asset=ASSETS[name], description=description) for name, description in CHECKS.items()
    ],
)
def incoming_diagnoses(context: dg.AssetExecutionContext, config: DiagnosisConfig, paths: LunaPaths) -> Iterator[Any]:
    """Diagnose the series of the run's partitions, or those that are left; one event for each."""
    from luna_pipeline.core.malloc import keep_freed_memory
    from luna_pipeline.launchers.diagnosis.incoming import incoming_catalogue

    keep_freed_memory()
    settings, table = paths.settings, incoming_catalogue(paths.settings)
    readable = sorted(table.loc[table["is_readable"], "series_instance_uid"])
    register_series(context.instance, readable, INCOMING_SERIES_NAME)
    made = [name for name in (LUNGS, DIAGNOSIS) if dg.AssetKey(name) in context.selected_asset_keys]
    uids = _left(context, config, settings, table, made) if made else []
    context.log.info("%d of %d readable series to diagnose", len(uids), len(readable))
    with EventBatch(context) as batch:
        run = _Diagnoses(context, batch, settings, table, config.choice() if made else None)
        failed = {uid: reason for uid in uids if (reason := run.make(uid, made))}
    _report_checks(context, settings)
    if failed:
        raise _failure(failed, len(uids))
    yield from ()


class _Diagnoses:
    """Makes the assets of one series after the other and logs their events."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        batch: EventBatch,
        settings: "Settings",
        table: "pd.DataFrame",
        choice: "ModelChoice | None",
    ) -> None:
        self._context, self._batch, self._settings, self._table = context, batch, settings, table
        self._choice = choice
        # Tags by which Dagster sees that a diagnosis belongs to the lungs that were made before it.
        self._inputs: dict[str, str] = {}
        self._tags = {
            LUNGS: {"dagster/code_version": CODE_VERSION},
            DIAGNOSIS: provenance_tags(context.instance, ["champion"], code_version=CODE_VERSION),
        }

    def make(self, uid: str, assets: Collection[str]) -> str | None:
        """Make assets of a series; return why one failed, None if none did."""
        from luna_pipeline.launchers.diagnosis.incoming import content_of, files_of_series
        from luna_pipeline.launchers.diagnosis.incoming_diagnosis import reason_of, write_record

        reason: str | None = None
        files, self._inputs = "", {}
        for asset in assets:
            try:
                if reason is None or not self._needs_lungs():
                    # Taken first: if the files change meanwhile, the sensor sees other ones than recorded here.
                    files = content_of(files_of_series(self._settings, uid, self._table))
                    self._made(uid, asset, files)
                    write_record(self._settings, uid, asset, files=files)
                    continue
            except Exception as error:
                reason = reason_of(error, uid)
            write_record(self._settings, uid, asset, files=files, reason=reason)
            log_failed_series(self._batch, asset, uid, str(reason), is_planned=not self._has_partitions())
        self._batch.flush()
        return reason

    def _needs_lungs(self) -> bool:
        return self._choice is not None and self._choice.recipe.lungs_only

    def _has_partitions(self) -> bool:
        return bool(self._context.has_partition_key or self._context.has_partition_key_range)

    def _made(self, uid: str, asset: str, files: str) -> None:
        from luna_pipeline.launchers.diagnosis import incoming_diagnosis

        if asset == LUNGS:
            lungs, png = incoming_diagnosis.make_lungs(self._settings, uid, self._table)
            version = hashlib.sha256(lungs.mask.tobytes()).hexdigest()
            metadata = lungs_metadata(self._settings, uid, lungs, png)
        else:
            assert self._choice is not None
            diagnosis = incoming_diagnosis.make_diagnosis(
                self._settings,
                uid,
                self._table,
                self._choice,
                run_ids={"dagster": self._context.run.run_id},
                on_progress=self._log_stage,
            )
            version = incoming_diagnosis.content_version(diagnosis)
            metadata = diagnosis_metadata(self._settings, uid, diagnosis)
        tags = {DATA_VERSION: version, **self._tags[asset], **self._inputs}
        if asset == LUNGS:
            self._inputs = {
                f"dagster/input_data_version/{LUNGS}": version,
                f"dagster/input_event_pointer/{LUNGS}": "NULL",
            }
        self._batch.materialize(dg.AssetMaterialization(asset, partition=uid, metadata=metadata, tags=tags))
        self._batch.log(logging.INFO, f"{asset} of series {uid} is made")

    def _log_stage(self, stage: str, done: int, total: int) -> None:
        if done == 0:
            self._context.log.info("%s: %d parts", stage, total)


def _left(
    context: dg.AssetExecutionContext,
    config: DiagnosisConfig,
    settings: "Settings",
    table: "pd.DataFrame",
    assets: Collection[str],
) -> list[str]:
    """Return the series that the run makes assets of: those of its partitions, or those that are left."""
    from luna_pipeline.launchers.diagnosis.incoming import contents_of
    from luna_pipeline.launchers.diagnosis.incoming_diagnosis import outdated

    asked = sorted(context.partition_keys) if context.has_partition_key or context.has_partition_key_range else None
    if asked is not None and not config.only_outdated:
        return asked
    contents = contents_of(settings, table, among=asked)
    missing = series_left(context.instance, settings, contents, assets)
    if not config.only_outdated:
        return missing
    return sorted({*missing, *outdated(settings, contents, config.choice())})


def _report_checks(context: dg.AssetExecutionContext, settings: "Settings") -> None:
    """Report the results of the selected checks.

    Dagster refuses results that are yielded in a run over all series, since their assets have partitions.
    """
    from luna_pipeline.launchers.diagnosis.incoming import look_at_incoming
    from luna_pipeline.launchers.diagnosis.incoming_diagnosis import failed_diagnoses, undiagnosed

    incoming = look_at_incoming(settings)
    known = context.instance.get_dynamic_partitions(INCOMING_SERIES_NAME)
    present = {*incoming.present}
    failed = failed_diagnoses(settings, present.intersection(known))
    waiting = sorted(set(undiagnosed(settings, incoming.contents, [DIAGNOSIS])) - set(failed))
    selected, step = {key.name for key in context.selected_asset_check_keys}, context.get_step_execution_context()
    for result in (
        readable_result(incoming.unreadable, incoming.num_arriving),
        gone_result(sorted(set(known) - present)),
        complete_result(failed, waiting),
    ):
        if result.check_name in selected:
            # Its creation stores it, as an event of this step.
            DagsterEvent.asset_check_evaluation(step, evaluation_of(context.instance, result))


def _failure(failed: dict[str, str], num_series: int) -> dg.Failure:
    from luna_pipeline.core.ct.errors import TransientFailure, name_series

    msg = f"Every series must be diagnosed, got {len(failed)} of {num_series} that failed: {name_series(failed)} | "
    is_transient = any(isinstance(reason, TransientFailure) for reason in failed.values())
    metadata = {FAILED: dg.MetadataValue.json(failed), IS_TRANSIENT: dg.MetadataValue.bool(is_transient)}
    return dg.Failure(f"{msg}Fix or remove them, and run `diagnose` again.", metadata=metadata, allow_retries=False)
