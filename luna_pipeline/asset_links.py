"""What Dagster's page of an asset links to: the job that makes it, what starts that job, documentation, source code."""

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from luna_pipeline.runs.origins import LOCATION

REPOSITORY_URL, REPOSITORY_BRANCH = "LUNA_REPOSITORY_URL", "LUNA_REPOSITORY_BRANCH"
# Job, its assets, what starts it without a person.
_RECUT = "sensor inputs_changed and the schedule recut_nightly (job recut_changed)"
_INCOMING = "sensor incoming_changed"
_MADE_BY: Sequence[tuple[str, Sequence[str], str]] = (
    ("download_luna16", ["luna16_archives"], ""),
    ("ingest", ["ct_series", "same_scans", "candidates", "rejected", "reader_nodules", "folds"], _RECUT),
    ("describe_data", ["data_quality"], ""),
    ("cut", ["cutouts"], _RECUT),
    ("index", ["cutout_index"], _RECUT),
    ("train_nodule_classifier", ["nodule_classifier", "zero_rule_baseline", "feature_baseline"], ""),
    ("train_malignancy_classifier", ["malignancy_classifier", "malignancy_feature_baseline"], ""),
    ("train_nodule_segmenter", ["nodule_segmenter"], ""),
    ("tune", ["tuning_study", "tuned_nodule_classifier"], ""),
    ("evaluate_detection", ["detection_froc"], ""),
    ("evaluate", ["nodule_predictions", "malignancy_predictions", "nodule_froc", "leaderboard"], ""),
    (
        "evaluate",
        [
            f"{task}_{kind}"
            for task in ("nodule", "malignancy")
            for kind in ("report", "calibration", "subgroups", "errors", "model_cards")
        ],
        "",
    ),
    ("promote", ["champion"], ""),
    ("diagnose", ["lungs", "diagnosis"], _INCOMING),
)
JOB_OF = {asset: (job, started_by) for job, assets, started_by in _MADE_BY for asset in assets}
"""Asset: the job that makes it, and what starts that job without a person."""
_PAGE_OF_JOB = {
    "download_luna16": "how_to/sources/luna16.md",
    "ingest": "how_to/sources/index.md",
    "describe_data": "how_to/describe_data.md",
    "cut": "how_to/cut.md",
    "index": "how_to/cut.md",
    "train_nodule_classifier": "how_to/train.md",
    "train_malignancy_classifier": "how_to/train.md",
    "train_nodule_segmenter": "how_to/train.md",
    "tune": "how_to/tune.md",
    "evaluate_detection": "how_to/evaluate_detection.md",
    "evaluate": "how_to/compare.md",
    "promote": "how_to/compare.md",
    "diagnose": "how_to/diagnose.md",
}


def documentation_of(asset: str) -> str:
    """Return an asset's page of the documentation: its path, or with LUNA_REPOSITORY_URL its address."""
    page = "explanation/baselines.md" if asset.endswith("baseline") else _PAGE_OF_JOB[JOB_OF[asset][0]]
    url = os.environ.get(REPOSITORY_URL)
    return f"{url.rstrip('/')}/blob/{os.environ.get(REPOSITORY_BRANCH, 'main')}/docs/{page}" if url else f"docs/{page}"


def linked(assets: Iterable[Any]) -> list[Any]:
    """Return the assets with their job, its automation, and code references as metadata.

    A code reference is a file and line on this machine; with LUNA_REPOSITORY_URL the same in a repository.
    """
    with warnings.catch_warnings():
        # Code references are beta in Dagster 1.13.
        warnings.simplefilter("ignore", dg.BetaWarning)
        found: Any = dg.with_source_code_references(list(assets))
        if url := os.environ.get(REPOSITORY_URL):
            found = dg.link_code_references_to_git(
                found,
                git_url=url,
                git_branch=os.environ.get(REPOSITORY_BRANCH, "main"),
                file_path_mapping=dg.AnchorBasedFilePathMapping(
                    local_file_anchor=Path(__file__), file_anchor_path_in_repository="luna_pipeline/asset_links.py"
                ),
            )
    return list(dg.map_asset_specs(_with_job, found))


def _with_job(spec: dg.AssetSpec) -> dg.AssetSpec:
    name = spec.key.to_user_string()
    if name not in JOB_OF:
        return spec
    (job, started_by), page = JOB_OF[name], documentation_of(name)
    # Dagster's page says "No automations found" even where a sensor starts the asset's job.
    start = f"job {job}, started by a person"
    automation = f"{start}, or by the {started_by}, if these are on." if started_by else f"{start}."
    return spec.merge_attributes(
        metadata={
            "made_by_job": dg.MetadataValue.job(job, LOCATION, repository_name="__repository__"),
            "automation": automation,
            "documentation": dg.MetadataValue.url(page) if "://" in page else page,
        },
        tags={"luna/job": job},
    )
