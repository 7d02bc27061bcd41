"""Stages of each plan are recognised by the lines of the log."""

from collections.abc import Sequence

from luna_pipeline.terminal.follow import StageFollower
from luna_pipeline.terminal.log_lines import Counter
from luna_pipeline.terminal.plans import PLANS, Stage

ID = "0b5b059e-88a2-4f60-84b0-97ed8d28d471"


class Shown:
    """A display that records what it is asked to show."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: dict[str, str] = {}
        self.counters: dict[str, list[str]] = {}
        self.warnings: list[str] = []

    def line(self, text: str = "") -> None:
        raise AssertionError(text)

    def begin(self, number: int, stage: Stage) -> None:
        assert number == len(self.begun)
        self.begun.append(stage.title)

    def progress(self, number: int, stage: Stage, counter: Counter) -> None:
        self.counters.setdefault(stage.title, []).append(counter.text)

    def end(self, number: int, stage: Stage, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.ended[stage.title] = result

    def warn(self, level: str, message: str) -> None:
        self.warnings.append(f"{level} {message}")

    def close(self) -> None:
        """Do nothing."""


def followed(target: str, lines: Sequence[str]) -> Shown:
    """Follow a log of lines ``job step message``, or of lines that begin with a blank and have no time."""
    shown = Shown()
    follower = StageFollower(PLANS[target].stages, shown)
    follower.start()
    for line in lines:
        job, step, message = line.split(" ", 2)
        follower.read(
            f"2026-11-30 17:42:53 +0000 - dagster - INFO - {job} - {ID} - {step} - {message}" if job else line
        )
    follower.end_through(PLANS[target].stages[-1])
    assert shown.begun == [stage.title for stage in PLANS[target].stages]
    assert list(shown.ended) == shown.begun
    return shown


def test_the_demo():
    shown = followed(
        "demo",
        [
            "demo make_phantom_data Synthetic series 1 of 36: 2.25.1",
            "demo make_phantom_data Synthetic series 36 of 36: 2.25.36",
            "demo ingest_phantom `ingest`: ct_series 36 rows; same_scans 0 rows; candidates 734 rows, rejected 0 rows",
            "cut cutouts cut 2.25.1: 22 candidates in 0.02 s",
            "  cut 2.25.36: 14 candidates in 0.01 s",
            "cut cutouts 36 series cut, 0 current, 0 failed",
            "demo cut_phantom `cut`: 36 series cut, 0 current, 0 failed",
            "__ASSET_JOB nodule_classifier epoch 5/5 training: 88 % (45 of 51 batches), loss 0.1",
            "__ASSET_JOB nodule_classifier epoch 5/5 validation: loss 0.38, auc 0.9505, average_precision 0.87",
            "train_nodule_classifier nodule_classifier `nodule_classifier` of fold 0: is trained",
            "__ASSET_JOB feature_baseline Features of 621 of 621 candidates.",
            "train_nodule_classifier feature_baseline `feature_baseline` of fold 0: feature_baseline 242 rows",
            "demo train_on_phantom `train_nodule_classifier`: `index`: cutout_index 734 rows; ...",
            "evaluate nodule_report CPM 0.899 [0.714, 1.000] of nodule_classifier, fold 0 of 5 (synthetic phantom)",
            "demo evaluate_on_phantom `evaluate`: ...",
        ],
    )
    assert shown.ended == {
        "Raw CTs": "36 synthetic CTs",
        "Tables": "36 CTs, 734 candidates and annotations",
        "Cutouts": "36 CTs cut, 0 unchanged, 0 failed",
        "Network": "validation AUC 0.9505 after 5 epochs",
        "Baselines": "242 scores",
        "Evaluation": "CPM 0.899 [0.714, 1.000], nodule_classifier, fold 0 of 5",
    }
    assert shown.counters["Raw CTs"] == ["1 of 36", "36 of 36"]
    assert shown.counters["Network"] == ["epoch 5 of 5", "epoch 5 of 5"]


def test_a_phantom_that_is_there_ends_the_first_stage():
    shown = followed("demo", ["demo make_phantom_data The synthetic phantom is there: 36 series, seed 0."])
    assert shown.ended["Raw CTs"] == "36 synthetic CTs"


def test_the_diagnosis_without_a_new_classifier():
    shown = followed(
        "demo-diagnosis",
        [
            "demo_diagnosis make_phantom_data The synthetic phantom is there: 36 series, seed 0.",
            "demo_diagnosis prepare_phantom `ingest`: ct_series 36 rows; candidates 734 rows, rejected 0 rows",
            "cut cutouts 0 series cut, 36 current, 0 failed",
            "demo_diagnosis prepare_phantom `cut`: 0 series cut, 36 current, 0 failed",
            "train_nodule_segmenter nodule_segmenter Making `nodule_segmenter` of fold 0",
            "__ASSET_JOB nodule_segmenter epoch 8/8 validation: crop_dice 0.7",
            "demo_diagnosis train_segmenter_on_phantom `train_nodule_segmenter`: ...",
            "__ASSET_JOB detection_froc Scan 1 of 7: 2.25.1",
            "demo_diagnosis detect_on_phantom `evaluate_detection`: ...",
        ],
    )
    assert shown.ended["Classifier"] == ""
    assert shown.ended["Segmenter"] == "crop_dice 0.7 after 8 epochs"
    assert shown.counters["Detection"] == ["1 of 7"]


def test_the_study():
    shown = followed(
        "study",
        [
            "tune nested_index `index`: cutout_index 734 rows",
            "__ASSET_JOB tuning_study 1 of 8 trials ended: trial 0 finished with auc 0.9",
            "__ASSET_JOB tuning_study 7 of 8 trials ended; trial 7 at epoch 2",
            "__ASSET_JOB tuning_study 8 of 8 trials ended: trial 7 finished",
            "__ASSET_JOB tuning_study Trial 3 won (optimizer.learning_rate=0.002). Research use only.",
        ],
    )
    assert shown.ended == {
        "Index": "734 cutouts",
        "Trials": "8 of 8 trials",
        "Winner": "Trial 3 won (optimizer.learning_rate=0.002). Research use only.",
    }


def test_a_score_of_a_single_scan_has_no_interval():
    lines = [
        "demo train_on_phantom `train_nodule_classifier`: ...",
        "evaluate nodule_report CPM 0.286 of nodule_classifier, fold 1 of 2 (CT; research use only)",
    ]
    assert followed("demo", lines).ended["Evaluation"] == "CPM 0.286, nodule_classifier, fold 1 of 2"


def test_warnings_are_shown_at_once():
    shown = Shown()
    follower = StageFollower(PLANS["demo"].stages, shown)
    follower.start()
    follower.read(f"2026-11-30 17:42:53 +0000 - dagster - WARNING - cut - {ID} - cutouts - The CT is gone")
    assert shown.warnings == ["WARNING The CT is gone"]
