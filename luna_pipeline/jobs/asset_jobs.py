"""Asset jobs: each materializes assets that share their partitions."""

import dagster as dg

from luna_pipeline.assets.sources import SOURCE_TABLES
from luna_pipeline.jobs.definition import asset_job

DIAGNOSIS_TAG = "luna/diagnosis"
"""Tag of the runs that diagnose. dagster.yaml limits how many are in progress: each holds a whole CT in memory."""
CHAMPION_ORIGIN = dg.AssetCheckKey(dg.AssetKey("champion"), "champion_origin")

ASSET_JOBS = [
    asset_job(
        "ingest",
        [*SOURCE_TABLES, "ct_series", "same_scans", "candidates", "rejected", "reader_nodules", "folds"],
        description="Catalogue the CT series; make candidate table and folds from the tables of the data sources.",
    ),
    asset_job(
        "describe_data",
        ["data_quality"],
        description="Describe the scans: geometry, technique, HU, nodules, readers; problems and warnings.",
    ),
    asset_job(
        "find_same_scans",
        ["same_scans"],
        description="Find series that show the same scan, by their voxels: other formats, orientations, blocks.",
    ),
    asset_job(
        "cut",
        ["cutouts"],
        description="Cut missing, damaged or outdated cutouts: of all registered series, or of the partition tag's.",
    ),
    asset_job(
        "download_luna16",
        ["luna16_archives"],
        description="Download and unpack the subset of LUNA16 that is the partition, and the tables.",
    ),
    asset_job("index", ["cutout_index"], description="Make the table that locates the cutout of each candidate."),
    asset_job(
        "promote",
        ["champion"],
        description="Compare the best network of the leaderboard with MLflow's champion, and promote it by the rule.",
    ),
]

diagnose = asset_job(
    "diagnose",
    dg.AssetSelection.assets("lungs", "diagnosis") | dg.AssetSelection.checks(CHAMPION_ORIGIN),
    tags={DIAGNOSIS_TAG: "true"},
    description="Diagnose incoming CTs: all that have no diagnosis of their present files, or the partition tag's. "
    "Research use only.",
)
ASSET_JOBS.append(diagnose)
