"""The line with which the job `evaluate` ends."""

from pathlib import Path

import pandas as pd

from luna_pipeline.core.phantom.marker import MARKER
from luna_pipeline.jobs.score_line import score_line
from luna_pipeline.settings import Settings

NAN = float("nan")
COLUMNS = ["model", "folds", "cpm", "cpm_lower", "cpm_upper"]
BASELINE = ("zero_rule_baseline", "folds 0, 1 of 3", 0.1, 0.0, 0.2)


def _line(tmp_path: Path, *rows: tuple, is_synthetic: bool = False, **more: str) -> tuple[str, dict]:
    settings = Settings.from_environment({"LUNA_HOME": str(tmp_path), "LUNA_DATA_DIR": str(tmp_path)})
    (tmp_path / "tables").mkdir()
    pd.DataFrame(list(rows), columns=COLUMNS).assign(**more).to_parquet(tmp_path / "tables/nodule_froc.parquet")
    if is_synthetic:
        (tmp_path / MARKER).write_text("{}")
    return score_line(settings)


def test_score_names_interval_folds_and_that_the_data_are_synthetic(tmp_path):
    line, metadata = _line(tmp_path, BASELINE, ("nodule_classifier", "fold 0 of 3", 0.7461, 0.69, 1), is_synthetic=True)
    assert line == ("CPM 0.746 [0.690, 1.000] of nodule_classifier, fold 0 of 3 (synthetic phantom; research use only)")
    assert (metadata["cpm"], metadata["cpm_upper"], metadata["folds"]) == (0.7461, 1.0, "fold 0 of 3")
    assert (metadata["data"], metadata["notes"]) == ("synthetic phantom", "Research use only.")


def test_score_of_sampled_candidates_is_called_so(tmp_path):
    mark = "sampled candidates, not comparable"
    line, metadata = _line(tmp_path, ("nodule_classifier", "fold 0 of 3", 0.9, NAN, NAN), notes=mark)
    assert line == f"CPM 0.900 of nodule_classifier, fold 0 of 3 (CT; {mark}; research use only)"
    assert metadata["notes"] == "Sampled candidates, not comparable. Research use only."


def test_score_without_an_interval_has_none(tmp_path):
    line, metadata = _line(tmp_path, ("nodule_classifier", "fold 0 of 3", 0.5, NAN, NAN))
    assert line == "CPM 0.500 of nodule_classifier, fold 0 of 3 (CT; research use only)"
    # NaN is no JSON: Dagster's page could not show the run.
    assert metadata.keys() == {"cpm", "folds", "data", "notes"}


def test_undefined_score_is_said(tmp_path):
    for number, rows in enumerate([(), (("nodule_classifier", "fold 0 of 3", NAN, NAN, NAN),)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        line, metadata = _line(folder, *rows)
        assert line == "CPM undefined: no nodule is annotated in the pooled scans (CT; research use only)"
        assert "cpm" not in metadata
