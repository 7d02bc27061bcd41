"""Stage 5: the whole detector on a test fold, from the CTs to LUNA16's score."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from luna_pipeline.assets import markdown
from luna_pipeline.assets.detection_config import DetectionConfig
from luna_pipeline.assets.leak_check import leak_result, no_leak, stop_at_leak
from luna_pipeline.assets.sources import REFERENCE_SOURCES
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.stage_5_evaluation import GROUP
from luna_pipeline.partitions import TEST_FOLDS, fold_of_partition
from luna_pipeline.resources import LunaPaths
from luna_pipeline.table_columns import shown_table

if TYPE_CHECKING:
    from luna_pipeline.launchers.diagnosis.detected_fold import DetectedFold

SHOWN = ["model", "cpm", "cpm_lower", "cpm_upper", "lesion_recall", "fps_per_scan", "search_recall"]
SHOWN += ["findings_per_scan", "num_scans", "num_searched", "cpm_searched", "num_nodules"]


@dg.asset(
    partitions_def=TEST_FOLDS,
    pool="gpu",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "pytorch"},
    code_version="1",
    io_manager_key="tables",
    check_specs=[no_leak("detection_froc")],
    deps=["ct_series", "candidates", "folds", *REFERENCE_SOURCES],
)
def detection_froc(
    context: dg.AssetExecutionContext,
    config: DetectionConfig,
    paths: LunaPaths,
    nodule_segmenter: Any,
    nodule_classifier: Any,
) -> Iterator[dg.Output[Any] | dg.AssetCheckResult]:
    """LUNA16's FROC and CPM of the detector's own findings on every scan of the test fold. Research use only.

    Source: the CTs of the fold, searched by the segmenter and the classifier of this fold, and by the zero rule of
    detection: the brightest blobs in the lungs. Form: one row per detector with the columns of `nodule_froc`, recall
    and false positives per scan, and the score over the searched scans alone; submissions with lists of the searched
    scans, `submissions/<detector>/<fold>.csv` and `<fold>_searched.csv`.
    """
    from luna_pipeline.core.malloc import keep_freed_memory
    from luna_pipeline.launchers.diagnosis import detected_fold

    started, settings, fold = time.perf_counter(), paths.settings, fold_of_partition(context)
    keep_freed_memory()
    reports = detected_fold.leaks(settings, [nodule_segmenter, nodule_classifier], test_fold=fold)
    yield from stop_at_leak("detection_froc", fold, reports)
    detected = detected_fold.detect_and_score(
        settings,
        segmenter=nodule_segmenter,
        classifier=nodule_classifier,
        recipe=config.diagnosis_recipe(),
        test_fold=fold,
        device=config.device,
        draws=(config.num_bootstraps, config.seed),
        report=context.log.info,
    )
    for note in detected.scores.notes:
        context.log.warning(note)
    context.log.info(detected.line)
    yield dg.Output(detected.scores.table, metadata=_metadata(detected, started))
    yield leak_result("detection_froc", fold, reports)


def _metadata(detected: "DetectedFold", started: float) -> dict[str, Any]:
    scores = detected.scores
    metadata: dict[str, Any] = {
        "data": "synthetic phantom" if detected.is_synthetic else "CT",
        "segmenter": detected.segmenter,
        "classifier": detected.classifier,
        "recipe": dg.MetadataValue.json(detected.recipe.to_dict()),
        "scores": shown_table(scores.table[SHOWN]),
        "seconds_by_stage": shown_table(detected.seconds),
        "notes": " ".join([*scores.notes, "Research use only."]),
        "seconds": round(time.perf_counter() - started, 2),
    }
    for name, found in detected.detections.items():
        metadata |= {
            f"{name}_submission": dg.MetadataValue.path(str(detected.files[name][0])),
            f"{name}_searched": dg.MetadataValue.path(str(detected.files[name][1])),
            f"{name}_not_searched": dg.MetadataValue.json(found.not_searched),
        }
    if scores.results:
        metadata["froc"] = dg.MetadataValue.md(markdown.picture(detected.froc_png(), "FROC, research use only"))
        row = scores.table.iloc[0]
        metadata |= {name: float(row[name]) for name in SHOWN[1:7]}
    return metadata
