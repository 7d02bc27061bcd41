"""Names of assets, partitions and automations, in the order of the stages.

Loading Dagster's definitions takes seconds; a test compares these names with them.
"""

from luna_pipeline.core.quality.limits import LIMITS
from luna_pipeline.partitions import CT_SERIES_NAME, INCOMING_SERIES_NAME, TEST_FOLD_NAME

_FOLD, _SERIES, _INCOMING = TEST_FOLD_NAME, CT_SERIES_NAME, INCOMING_SERIES_NAME
ASSETS = {
    **dict.fromkeys(("ct_series", "same_scans", "candidates", "rejected", "reader_nodules", "folds"), ""),
    **{"data_quality": "", "cutouts": _SERIES, "cutout_index": ""},
    **dict.fromkeys(("nodule_classifier", "malignancy_classifier", "nodule_segmenter"), _FOLD),
    **dict.fromkeys(("tuning_study", "tuned_nodule_classifier", "zero_rule_baseline"), _FOLD),
    **dict.fromkeys(("feature_baseline", "malignancy_feature_baseline"), _FOLD),
    **dict.fromkeys(("nodule_predictions", "malignancy_predictions", "detection_froc"), _FOLD),
    **dict.fromkeys(("nodule_froc", "nodule_report", "nodule_calibration", "nodule_subgroups", "nodule_errors"), ""),
    **dict.fromkeys(("nodule_model_cards", "malignancy_report", "malignancy_calibration"), ""),
    **dict.fromkeys(("malignancy_subgroups", "malignancy_errors", "malignancy_model_cards"), ""),
    **{"leaderboard": "", "champion": "", "lungs": _INCOMING, "diagnosis": _INCOMING},
}
"""Partitions of each asset by name, empty for none. `luna16_archives`, which are in the data root, are left out."""
CLASSIFIERS = ("nodule_classifier", "malignancy_classifier", "nodule_segmenter", "tuned_nodule_classifier")
AUTOMATIONS = {
    "inputs_changed": False,
    "recut_nightly": False,
    "incoming_changed": False,
    "run_failed": True,
    "prune_runs_weekly": True,
}
"""Whether each sensor and schedule is on unless it was switched off."""
CHECKS = {
    "ct_series": ("every_ct_is_readable", "no_ct_is_gone"),
    "candidates": ("rejected_rows_are_few",),
    "folds": ("folds_hold_series_and_patients_apart", "no_fold_is_gone"),
    "data_quality": tuple(limit.name for limit in LIMITS),
    "cutout_index": ("cutouts_are_whole", "no_cutout_in_two_folds"),
    "feature_baseline": ("no_leak",),
    "malignancy_feature_baseline": ("no_leak",),
    "nodule_predictions": ("no_leak",),
    "malignancy_predictions": ("no_leak",),
    "detection_froc": ("no_leak",),
    "champion": ("champion_origin", "may_be_champion"),
    "lungs": ("incoming_series_readable", "no_incoming_series_is_gone"),
    "diagnosis": ("diagnoses_complete",),
}
"""Checks of each asset."""
