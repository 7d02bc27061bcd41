"""Tables of a data root as external assets: their names, files and readers."""

from luna_pipeline.core.candidates.table_places import (
    ANNOTATION_FILES,
    CANDIDATE_FILES,
    EXCLUDED_FILES,
    MALIGNANCY_FILES,
    SCAN_FILES,
    SUBSET_FILES,
)

# Asset: file names in the data root, of which the first existing one is read; description.
SOURCE_TABLES = {
    "annotations": (ANNOTATION_FILES, "LUNA16's nodules: position in LPS mm and diameter in mm."),
    "candidates_v2": (
        CANDIDATE_FILES,
        "LUNA16's candidates: positions in LPS mm proposed by detectors, class 1 = nodule.",
    ),
    "malignancy_ratings": (MALIGNANCY_FILES, "Nodules with the readers' malignancy ratings, 1 to 5."),
    "luna16_subsets": (SUBSET_FILES, "LUNA16's subset of each series, for data without subset folders."),
    "annotations_excluded": (EXCLUDED_FILES, "LUNA16's findings that are neither nodules nor false positives."),
    "seriesuids": (SCAN_FILES, "LUNA16's scans; only these are evaluated."),
}
# Read to build the candidate table; to evaluate predictions by LUNA16's metric.
CANDIDATE_SOURCES = ["annotations", "annotations_excluded", "candidates_v2", "malignancy_ratings"]
REFERENCE_SOURCES = ["annotations", "annotations_excluded", "seriesuids"]
