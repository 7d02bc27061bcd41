"""Stage 2: the candidate table, from LUNA16's tables, and the folds."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from luna_pipeline.assets.data_versions import versioned
from luna_pipeline.assets.sources import CANDIDATE_SOURCES, SOURCE_TABLES
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.choices import names_of
from luna_pipeline.core.candidates.malignancy_policies import MALIGNANCY_POLICIES
from luna_pipeline.partitions import forget_folds, gone_folds, register_folds
from luna_pipeline.resources import LunaPaths
from luna_pipeline.table_columns import shown_table

GROUP = "stage_2_candidates"
# Tables and cutouts are made or checked every night: a warning after one missed night, failure after two.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))


@dg.multi_observable_source_asset(  # type: ignore[untyped-decorator]
    group_name=GROUP,
    specs=[
        dg.AssetSpec(name, owners=OWNERS, kinds={"csv"}, description=f"External file `{files[0]}`. {description}")
        for name, (files, description) in SOURCE_TABLES.items()
    ],
)
def source_tables(paths: LunaPaths) -> Iterator[dg.ObserveResult]:
    """Observe the version of each external table: the digest of its content."""
    from luna_pipeline.core.candidates.table_places import find_table
    from luna_pipeline.core.storage.files import sha256_of
    from luna_pipeline.launchers.data_sources import tables_root

    root = tables_root(paths.settings)
    for name, (files, _) in SOURCE_TABLES.items():
        path = find_table(root, files)
        version = dg.DataVersion(sha256_of(path) if path else "absent")
        file = path.name if path else "absent"
        yield dg.ObserveResult(asset_key=name, data_version=version, metadata={"file": file})


PolicyName: Any = names_of(MALIGNANCY_POLICIES)


class CandidatesConfig(dg.Config):
    """How labels are made."""

    malignancy_policy: PolicyName | None = Field(
        default=None,
        description="Rule that makes a label of the readers' malignancy ratings, 1 to 5. `book`: malignant with two "
        "ratings of 4 or 5; `mean` and `median`: above 3, and exactly 3 is dropped. Default: "
        "LUNA_MALIGNANCY_POLICY, else `book`.",
    )


@dg.multi_asset(
    group_name=GROUP,
    outs={
        "candidates": dg.AssetOut(
            freshness_policy=FRESHNESS,
            io_manager_key="tables",
            owners=OWNERS,
            kinds={"python", "parquet"},
            code_version="1",
            description="Candidates and annotations of all readable series; `source` distinguishes them. Form: "
            "candidate id, series uid, x_mm, y_mm, z_mm (LPS), class as in the file, diameter_mm and malignancy of the "
            "nearest annotation whose radius contains the candidate. Size: 756,161 rows for LUNA16.",
        ),
        "rejected": dg.AssetOut(
            io_manager_key="tables",
            owners=OWNERS,
            kinds={"python", "parquet"},
            code_version="1",
            description="Rows of the source tables that cannot be used, as written, with file, line and reason.",
        ),
        "reader_nodules": dg.AssetOut(
            io_manager_key="tables",
            owners=OWNERS,
            kinds={"python", "parquet"},
            code_version="1",
            description="Nodules as each reader marked them, with diameters in mm, volume in mm3 and ratings; empty "
            "for data sources without readers.",
        ),
    },
    deps=CANDIDATE_SOURCES,
)
def candidates(
    context: dg.AssetExecutionContext, config: CandidatesConfig, paths: LunaPaths, ct_series: Any
) -> Iterator[dg.Output[Any]]:
    """Join the tables of the data sources in world millimetres."""
    from luna_pipeline.core.storage.files import folder_digest
    from luna_pipeline.launchers.data_sources import candidate_tables

    started = time.perf_counter()
    # The digest is taken first, so that an edit made meanwhile counts as a change.
    inputs = folder_digest(paths.settings.data_dir, by_content=".csv")
    policy = config.malignancy_policy or paths.settings.malignancy_policy
    settings = replace(paths.settings, malignancy_policy=policy)
    made = candidate_tables(settings, ct_series, context.log.info)
    tables = made.tables
    log_notes(context, tables.notes)
    metadata: dict[str, Any] = {
        **tables.counts,
        "malignancy_policy": policy,
        "malignancy_policies": dg.MetadataValue.md(as_list(tables.policies)),
        "seconds": round(time.perf_counter() - started, 2),
        "inputs_digest": inputs,
        "notes": dg.MetadataValue.md(as_list(tables.notes)),
        "preview": shown_table(tables.candidates.head(5)),
    }
    reasons = {str(reason): int(n) for reason, n in tables.rejected["reason"].value_counts().items()}
    yield versioned(tables.candidates, metadata, output_name="candidates")
    yield versioned(tables.rejected, {"reasons": dg.MetadataValue.json(reasons)}, output_name="rejected")
    yield versioned(made.readers, {}, output_name="reader_nodules")


def log_notes(context: dg.AssetExecutionContext, notes: Iterable[str]) -> None:
    """Log what users must know about their tables; lines that start with ``Warning: `` as warnings."""
    for line in notes:
        (context.log.warning if line.startswith("Warning: ") else context.log.info)(line)


def as_list(notes: Iterable[str]) -> str:
    """Return notes as a list in Markdown."""
    return "\n".join(f"- {line}" for line in notes) or "none"


class FoldsConfig(dg.Config):
    """Folds of a data set that defines none."""

    num_folds: int = Field(default=10, ge=1, description="Number of folds, if the data set defines none.")
    seed: int = Field(default=0, ge=0, description="Seed of the split into folds, if the data set defines none.")


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="1",
    io_manager_key="tables",
    deps=["luna16_subsets", "same_scans"],
)
def folds(context: dg.AssetExecutionContext, config: FoldsConfig, paths: LunaPaths, ct_series: Any) -> dg.Output[Any]:
    """Fold of each series. All later splits are made from this table.

    Source: subset folders, else the folds of the data source such as `luna16_subsets.csv`, else a seeded split by
    patient and by equal scans, else by series. No patient is parted, also between data sources. Form:
    series uid, fold, keyed hash of the patient, rule used. Registers each fold as a partition. A fold that the data no
    longer have is removed from the partitions; with a trained classifier it stays registered until `luna prune`.
    """
    from luna_pipeline.launchers.cross_validation import folds_with_classifier
    from luna_pipeline.launchers.data_sources import describe_fold_table, fold_table

    started = time.perf_counter()
    table = fold_table(paths.settings, ct_series, num_folds=config.num_folds, seed=config.seed)
    notes = describe_fold_table(paths.settings, ct_series, table)
    log_notes(context, notes)
    register_folds(context.instance, table["fold"])
    trained = {str(fold) for fold in folds_with_classifier(paths.settings)}
    gone = gone_folds(context.instance, table["fold"])
    for key, user in forget_folds(context.instance, set(gone) - trained).items():
        context.log.warning("The data no longer have fold %s; it is kept, because %s has it.", key, user)
    gone = [key for key in gone if key in trained]
    if gone:
        context.log.warning("The data no longer have the trained folds %s; they are kept until `luna prune`.", gone)
    per_fold = table["fold"].value_counts().sort_index()
    metadata: dict[str, Any] = {
        "num_folds": len(per_fold),
        "gone": dg.MetadataValue.json(gone),
        "series_per_fold": dg.MetadataValue.json({str(fold): int(n) for fold, n in per_fold.items()}),
        "rule": ", ".join(sorted(set(table["rule"]))),
        "notes": dg.MetadataValue.md(as_list(notes)),
        "seconds": round(time.perf_counter() - started, 2),
    }
    return versioned(table, metadata)
