"""The detector of a test fold beside the zero rule of detection: both search every scan of the fold, and are scored."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch

from luna_pipeline.core.baselines.laplacian import laplacian_candidates
from luna_pipeline.core.ct.reading import Ct
from luna_pipeline.core.diagnosis.diagnose import DiagnosisModels, diagnose
from luna_pipeline.core.diagnosis.recipes import DiagnosisRecipe
from luna_pipeline.core.diagnosis.result import Role
from luna_pipeline.core.evaluation.froc_plot import froc_png
from luna_pipeline.core.evaluation.leaks import LeakReport
from luna_pipeline.core.lungs.mask import find_lungs
from luna_pipeline.core.storage.files import AnyPath
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.launchers.cross_validation import read_current
from luna_pipeline.launchers.diagnosis.detection import (
    Detection,
    DetectionScores,
    Mark,
    detect_fold,
    scans_of_fold,
    score_detections,
    score_line,
    write_detection,
)
from luna_pipeline.launchers.diagnosis.diagnose import DiagnosisRequest, diagnose_ct
from luna_pipeline.launchers.diagnosis.models import model_of
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.launchers.same_scans import read_same_scans
from luna_pipeline.launchers.seen_data import leaks_of_checkpoint
from luna_pipeline.settings import Settings

DETECTOR, ZERO_RULE = "nodule_detector", "laplacian_baseline"
# No candidate has this id: a scan without candidates is checked for leaks, too.
_NO_CANDIDATE = -1


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectedFold:
    """Findings and scores of the detector and of the zero rule on a test fold.

    Attributes:
        detections: Findings by detector.
        scores: Their official scores.
        files: Submission and list of searched scans, by detector.
        recipe: How the scans were searched.
        segmenter: Name and version of the segmenter.
        classifier: Name and version of the classifier.
        seconds: ``stage``, ``seconds`` of all scans and ``seconds_per_scan``, one row per stage.
        is_synthetic: Whether the data are a phantom.
    """

    detections: dict[str, Detection]
    scores: DetectionScores
    files: dict[str, tuple[AnyPath, AnyPath]]
    recipe: DiagnosisRecipe
    segmenter: str
    classifier: str
    seconds: pd.DataFrame
    is_synthetic: bool

    @property
    def line(self) -> str:
        """The detector's score in one line."""
        return score_line(self.scores.table, is_synthetic=self.is_synthetic)

    def froc_png(self) -> bytes:
        """Draw the official curves of both."""
        curves = {name: result.froc.official for name, result in self.scores.results.items()}
        title = str(self.scores.table["folds"].iloc[0])
        return froc_png(curves, title=f"whole scans, {title}", is_synthetic=self.is_synthetic)


def leaks(settings: Settings, checkpoints: Sequence[Checkpoint], *, test_fold: int) -> list[LeakReport]:
    """Return a report on each model: whether it has seen a series, patient or candidate of the test fold.

    All scans of the fold are compared, also those without candidates.
    """
    folds, candidates = read_table(settings, "folds"), read_table(settings, "candidates")
    series = folds.loc[folds["fold"] == test_fold, "series_instance_uid"].astype(object)
    of_fold = candidates.loc[candidates["series_instance_uid"].isin(series), ["candidate_id", "series_instance_uid"]]
    scans = pd.DataFrame({"candidate_id": _NO_CANDIDATE, "series_instance_uid": series})
    test = pd.concat([of_fold.astype({"series_instance_uid": object}), scans], ignore_index=True)
    test, same_scans = test.assign(fold=test_fold), read_same_scans(settings)
    return [leaks_of_checkpoint(checkpoint, test, folds, same_scans) for checkpoint in checkpoints]


def detect_and_score(
    settings: Settings,
    *,
    segmenter: Checkpoint,
    classifier: Checkpoint,
    recipe: DiagnosisRecipe,
    test_fold: int,
    device: str | None = None,
    draws: tuple[int, int] = (1000, 0),
    report: Callable[[str], None] = lambda _: None,
) -> DetectedFold:
    """Search and score a test fold, and write submissions and lists of searched scans.

    Args:
        settings: The installation.
        segmenter: The segmenter, which must not have seen the fold; see ``leaks``.
        classifier: The classifier, likewise.
        recipe: How the scans are searched.
        test_fold: The fold.
        device: Where the networks run; None for CUDA where there is one.
        draws: Number of draws of scans, 0 for none, and their seed.
        report: Called with a line for each scan.

    Raises:
        ValueError: If the fold has no scan, or one of the two could search none of them.
    """
    given: dict[Role, Checkpoint] = {"segmenter": segmenter, "classifier": classifier}
    titles = {role: f"{each.name} {each.version}" for role, each in given.items()}
    models = {role: model_of(role, each, address=titles[role]) for role, each in given.items()}
    search = _Search(
        models=DiagnosisModels(segmenter=models["segmenter"], classifier=models["classifier"]),
        recipe=recipe,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
    )
    found = detect_fold(
        settings,
        {DETECTOR: search.diagnosed, ZERO_RULE: search.blobs},
        test_fold=test_fold,
        on_scan=lambda uid, done, total: report(f"Scan {done} of {total}: {uid}"),
    )
    return DetectedFold(
        detections=found,
        scores=score_detections(settings, found, test_fold=test_fold, num_bootstraps=draws[0], seed=draws[1]),
        files={name: write_detection(settings, name, each, test_fold=test_fold) for name, each in found.items()},
        recipe=recipe,
        segmenter=titles["segmenter"],
        classifier=titles["classifier"],
        seconds=_seconds_table(search.seconds, found),
        is_synthetic=settings.is_synthetic,
    )


@dataclass(eq=False, kw_only=True)
class _Search:
    """The two detectors of a CT, and the seconds of the first one's stages over all CTs."""

    models: DiagnosisModels
    recipe: DiagnosisRecipe
    device: str
    seconds: Counter[str] = field(default_factory=Counter)

    def diagnosed(self, ct: Ct) -> list[Mark]:
        """Return the findings of a diagnosis with their probabilities."""
        diagnosis = diagnose(ct, self.models, self.recipe, device=self.device)
        self.seconds.update(diagnosis.seconds)
        return [(nodule.center_xyz, nodule.probability) for nodule in diagnosis.nodules]

    def blobs(self, ct: Ct) -> list[Mark]:
        """Return the brightest blobs in the lungs with their scores."""
        found = laplacian_candidates(ct.hounsfield, ct.grid, find_lungs(ct.hounsfield, ct.grid))
        centers = ((x, y, z) for x, y, z in found.center_xyz.tolist())
        return list(zip(centers, found.score.tolist(), strict=True))


def _seconds_table(seconds: Mapping[str, float], found: Mapping[str, Detection]) -> pd.DataFrame:
    stages = {**seconds, ZERO_RULE: found[ZERO_RULE].seconds}
    num_scans = {stage: len(found[ZERO_RULE if stage == ZERO_RULE else DETECTOR].searched) for stage in stages}
    rows = [(stage, total, total / num_scans[stage]) for stage, total in stages.items()]
    return pd.DataFrame(rows, columns=["stage", "seconds", "seconds_per_scan"])


def diagnose_first_scan(
    settings: Settings, out: AnyPath, *, recipe: DiagnosisRecipe, test_fold: int, run_ids: Mapping[str, str]
) -> AnyPath:
    """Diagnose the first scan of a test fold with the current models of this fold, and write all outputs.

    Args:
        settings: The installation.
        out: Folder of the diagnoses; this one is written to ``<out>/<uid>``.
        recipe: How the scan is searched.
        test_fold: The fold.
        run_ids: Ids of the runs that make it, by tracker.

    Returns:
        The folder of the outputs.
    """
    uid, path = next(iter(scans_of_fold(settings, test_fold).items()))
    segmenter, classifier = (
        f"{asset} {read_current(settings, asset, test_fold).version}"
        for asset in ("nodule_segmenter", "nodule_classifier")
    )
    request = DiagnosisRequest(
        ct=settings.data_dir / str(path),
        out=out / uid,
        recipe=recipe,
        series=uid,
        segmenter=segmenter,
        classifier=classifier,
        run_ids=run_ids,
    )
    diagnose_ct(settings, request)
    return out / uid
