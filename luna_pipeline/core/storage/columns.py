"""What the columns of the tables hold, with units. A name means the same in every table."""

import re

_INTERVAL = "of its 95 % interval (bootstrap)"
_RATING = "Reader's rating of the nodule, 1 to 5"
COLUMNS = {
    # Scans.
    "series_instance_uid": "DICOM (0020,000E) of the CT series.",
    "format": "File format of the CT: metaimage, nrrd, nifti or dicom.",
    "path": "File or folder of the CT, relative to the data root.",
    "size_irc": "Size in voxels: slices, rows, columns.",
    "spacing_mm": "Distance of voxels in mm along x, y, z.",
    "origin_xyz": "Position of the first voxel, LPS, in mm.",
    "direction": "Direction cosines of the axes, row by row.",
    "subset": "Number of the subset folder; null outside one.",
    "patient_hash": "Keyed hash of the patient's id; null where it is not known.",
    "manufacturer": "Manufacturer of the scanner, as in the header.",
    "slice_thickness_mm": "Thickness of a slice in mm, as in the header.",
    "fingerprint": "Digest of the content of the series' files.",
    "stat_digest": "Digest of names, sizes and times of the files.",
    "num_bytes": "Size in bytes.",
    "is_readable": "Whether the CT can be read.",
    "reason": "Why it cannot be used; null where it can.",
    "notes": "What a user should know about this row.",
    "data_source": "Name of the data source.",
    # Candidates and nodules.
    "candidate_id": "Number of the candidate, unique.",
    "x_mm": "World position, LPS, in mm: towards the patient's left.",
    "y_mm": "World position, LPS, in mm: towards the patient's back.",
    "z_mm": "World position, LPS, in mm: towards the patient's head.",
    "class": "1 = nodule, 0 = not.",
    "diameter_mm": "Diameter in mm of the nodule; of a candidate: of the annotated nodule that it lies in, null "
    "outside; of a reader's nodule: of the ball of equal volume.",
    "malignancy": "Mean of the readers' malignancy ratings, 1 to 5; null without ratings.",
    "is_malignant": "Label by the stated policy of ratings; null without one.",
    "source": "candidate (of a detector) or annotation (of readers).",
    "nodule": "Number of the nodule within the series.",
    "reader": "Number of the reader within the series.",
    "longest_axial_mm": "Longest diameter in an axial slice in mm.",
    "volume_mm3": "Volume in mm³.",
    **{
        name: f"{_RATING}: {name.replace('_', ' ')}."
        for name in ("subtlety", "internal_structure", "calcification", "sphericity", "margin", "lobulation")
    },
    **{name: f"{_RATING}: {name}." for name in ("spiculation", "texture")},
    "file": "Name of the file.",
    "line": "Line of the file, from 1.",
    **{axis: f"Coordinate {axis} as written in the file." for axis in "xyz"},
    "value": "The value that is wrong, as written.",
    # Same scans.
    "series_a": "First series of the pair.",
    "series_b": "Second series of the pair; empty for a scan that was not compared.",
    "source_a": "Data source of the first series.",
    "source_b": "Data source of the second series.",
    "kind": "Kind of the row: of a pair, group or calibration.",
    "share_equal": "Share of equal voxels of the overlap, 0 to 1.",
    "num_compared": "Number of compared voxels.",
    "covered_a": "Share of the first scan that the overlap covers, 0 to 1.",
    "covered_b": "Share of the second scan that the overlap covers, 0 to 1.",
    "correlation": "Correlation of the voxels of the overlap, -1 to 1.",
    "num_anchors": "Number of places at which the scans were matched.",
    "axes": "Order and direction of the axes.",
    "offset_irc": "Offset between the scans in voxels: slices, rows, columns.",
    "fingerprint_a": "Digest of the files of the first series.",
    "fingerprint_b": "Digest of the files of the second series.",
    # Folds and cutouts.
    "fold": "Fold of the CT: test part of one split.",
    "rule": "How the fold was assigned.",
    "row": "Row of the cutout in the series' file, from 0.",
    "sha256": "SHA-256 of the file.",
    # Models and their scores.
    "model": "Name of the model or baseline.",
    "version": "Version of the model; null for baselines.",
    "probability": "Score of the candidate, 0 to 1.",
    "threshold": "Threshold of the score, chosen on the validation fold; 0.5 without one.",
    "threshold_f1": "Threshold with the highest F1 on the validation fold.",
    "threshold_sensitivity": "Threshold for the wanted sensitivity on the validation fold.",
    "calibrated": "Calibrated probability, 0 to 1; null without a calibration.",
    "num_parameters": "Number of trainable parameters.",
    "training_seconds": "Seconds of training.",
    "scoring_seconds": "Seconds of scoring the test fold.",
    "candidates_per_second": "Candidates scored per second.",
    "mlflow_run_id": "MLflow run of the training; null without one.",
    "mlflow_runs": "MLflow runs of the trainings, separated by commas.",
    "recipe_digest": "Digest of the complete configuration of the training.",
    "index_digest": "Digest of the cutout index that was used.",
    "fold_digest": "Digest of the test fold's candidates.",
    "is_origin_known": "Whether the training scans of the weights are known.",
    "num_training_candidates": "Number of candidates in the training folds.",
    "test_fold": "Fold that is not used for training.",
    "registered_version": "Version in MLflow's registry.",
    "champion": "Name and version of the champion.",
    "card": "Model card as Markdown.",
    "versions": "Versions of the model on the folds.",
    "classifier_versions": "Versions of the pooled classifiers.",
    # Reports.
    "folds": "Test folds that are pooled.",
    "num_candidates": "Number of candidates.",
    "num_nodules": "Number of nodules.",
    "num_series": "Number of CT series.",
    "num_scans": "Number of evaluated scans.",
    "num_folds": "Number of pooled folds.",
    "auc": "Area under the ROC curve, 0 to 1.",
    "average_precision": "Average precision, 0 to 1.",
    "sensitivity_at_specificity_95": "Sensitivity at a specificity of 0.95.",
    "sensitivity": "Sensitivity at the threshold, 0 to 1.",
    "specificity": "Specificity at the threshold, 0 to 1.",
    "precision": "Precision at the threshold, 0 to 1.",
    "f1": "F1 at the threshold, 0 to 1.",
    **{
        f"{sign}_{kind}s": f"Number of {sign} {kind}s at the threshold."
        for sign in ("true", "false")
        for kind in ("positive", "negative")
    },
    "brier": "Brier score of the probabilities; lower is better.",
    "brier_calibrated": "Brier score of the calibrated probabilities.",
    "ece": "Expected calibration error of the probabilities, 0 to 1.",
    "ece_calibrated": "Expected calibration error of the calibrated probabilities.",
    "group": "Group of the scans or candidates.",
    "bin": "Number of the bin of the reliability diagram.",
    "mean_score": "Mean score within the bin.",
    "share_of_positives": "Share of class 1 within the bin.",
    "count": "Number of candidates within the bin.",
    # FROC and the leaderboard.
    "cpm": "Competition performance metric: mean sensitivity at the seven rates of LUNA16, 0 to 1.",
    "num_found": "Number of nodules that were found.",
    "num_false_positives": "Number of false positives.",
    "num_ignored": "Number of findings that count neither way (excluded annotations).",
    "num_doubles": "Number of further findings of a nodule that was found already.",
    "cpm_draws": "CPM of each bootstrap sample.",
    "rank": "Place, 1 is best.",
    "sensitivity_at_1_fp": "Sensitivity at 1 false positive per scan.",
    "better_than_next": "Whether it is better than the next model (paired bootstrap).",
    "cpm_gain": "CPM less that of the next model.",
    "lesion_recall": "Highest share of the nodules that is found with at most 4 false positives per scan.",
    "fps_per_scan": "False positives per scan at which lesion_recall is read.",
    "score_threshold": "Score from which a finding counts at lesion_recall.",
    "search_recall": "Share of the nodules that have a finding at any score.",
    "findings_per_scan": "Findings per scan at any score.",
    "num_searched": "Number of scans that were searched.",
    "cpm_searched": "CPM over the searched scans alone.",
    # Studies.
    "trial": "Number of the trial; 0 is the unchanged recipe.",
    "state": "finished, stopped_early or failed.",
    "score": "Validation score that the study maximises.",
    "best_epoch": "Epoch with the highest score, from 1.",
    "num_epochs": "Number of trained epochs.",
    "num_restarts": "How often the trial was restarted.",
    "changes": "Changes to the recipe, as JSON.",
    "error": "Why the trial failed; empty otherwise.",
    "seconds": "Duration in seconds.",
    # Quality of the data.
    "kernel": "Reconstruction kernel, as in the header.",
    "contrast": "Whether a contrast agent was given: given or not given.",
    "position": "Position of the patient, as in the header.",
    "plane": "Plane of the slices: axial, coronal or sagittal.",
    "content_digest": "Digest of a sample of the voxels: equal for copies.",
    "num_slices": "Number of slices.",
    "num_rows": "Number of rows.",
    "num_cols": "Number of columns.",
    "missing_slices": "Number of missing slices.",
    "slice_spacing_mm": "Distance of slices in mm.",
    "gap_mm": "Slice spacing less slice thickness in mm.",
    "pixel_spacing_mm": "Width of a pixel in mm.",
    "field_of_view_mm": "Width of the image in mm.",
    "coverage_mm": "Length of the scan in mm.",
    "tilt_deg": "Largest angle between an axis and the patient's in degrees.",
    "tube_kv": "Voltage of the tube in kV.",
    "tube_mas": "Tube current times exposure time in mAs.",
    **{f"{name}_hu": f"{name.capitalize()} value in HU." for name in ("lowest", "highest", "median")},
    **{f"percentile_{percent}_hu": f"Percentile {percent} of the values in HU." for percent in (1, 99)},
    "padding_hu": "Value of the padding in HU; null without padding.",
    "padding_share": "Share of voxels that are padding, 0 to 1.",
    "clipped_share": "Share of voxels at the lowest value, 0 to 1.",
    "air_peak_hu": "Most frequent value of air and lung in HU.",
    "tissue_peak_hu": "Most frequent value of soft tissue in HU.",
    "noise_hu": "Noise in soft tissue: most frequent standard deviation in HU.",
    "smallest_nodule_mm": "Smallest diameter of a nodule in mm.",
    "largest_nodule_mm": "Largest diameter of a nodule in mm.",
    "is_hounsfield": "Whether the voxels are in HU; null where they were not read.",
    "histogram": "Number of voxels by HU.",
}
_PATTERNS = (
    (re.compile(r"sensitivity_at_([\d.]+)"), "Sensitivity at {} false positives per scan."),
    (re.compile(r"(\w+)_at_threshold_(\w+)"), "{} at threshold_{}."),
    (re.compile(r"([a-z_]+\.[a-z_.]+)"), "Tried value of `{}` of the configuration."),
)


def describe_column(name: str) -> str | None:
    """Return what a column holds, with its unit; None for a name that is not known."""
    if name in COLUMNS:
        return COLUMNS[name]
    for end, word in (("_lower", "Lower"), ("_upper", "Upper")):
        if name.endswith(end):
            return f"{name.removesuffix(end)}: {word.lower()} end {_INTERVAL}."
    for pattern, text in _PATTERNS:
        if match := pattern.fullmatch(name):
            described = text.format(*match.groups())
            return described[0].upper() + described[1:]
    return None
