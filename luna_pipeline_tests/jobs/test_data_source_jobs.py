"""Synthetic twins of all data sources through the same jobs: catalogue, candidates, folds, cutouts, epoch, report."""

import shutil

import pytest

from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.core.phantom.form import PHANTOM_FORMS
from luna_pipeline.core.sources.registry import DATA_SOURCES
from luna_pipeline_tests.installation import Luna

SIZE_IRC = (48, 64, 64)
SHORT = {"epochs": 1, "batch_size": 8, "folds": [0]}
# Without the slower baseline: which there are does not depend on the source.
BASELINE = {"config": {"estimators": ["logistic_regression"]}}
OF_NODULES = {
    "ops": {"nodule_classifier": {"config": {"recipe": "demo", **SHORT}}, "feature_baseline": BASELINE},
}
OF_MALIGNANCY = {
    "ops": {
        "malignancy_classifier": {"config": {"recipe": "demo_malignancy", "head_only": False, **SHORT}},
        "malignancy_feature_baseline": BASELINE,
    }
}
DRAWS = {"ops": {"nodule_report": {"config": {"num_bootstraps": 20}}}}
# Sources of single nodules, without anything that is none.
OF_NODULES_ALONE = {"luna25", "nodulemnist3d"}


def make_twin(root, source, **options):
    shutil.rmtree(root, ignore_errors=True)
    values = {
        "num_series": 8 if source in OF_NODULES_ALONE else 6,
        "num_subsets": 3,
        "seed": 3,
        "size_irc": SIZE_IRC,
        "source": source,
        **options,
    }
    make_phantom(root, **values)


def test_every_source_has_a_twin():
    own = [name for name in DATA_SOURCES.names() if not DATA_SOURCES.is_own(name)]
    assert own == [name for name in PHANTOM_FORMS.names() if not PHANTOM_FORMS.is_own(name)]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["lidc_idri", "lndb", "luna25", "nodulemnist3d"])
def test_a_twin_goes_through_the_same_jobs(luna: Luna, source):
    """The test below has LUNA16's twin and that of the user's own scans."""
    make_twin(luna.data, source)
    task = "malignancy" if source in OF_NODULES_ALONE else "nodule"
    training = OF_MALIGNANCY if source in OF_NODULES_ALONE else OF_NODULES
    for job, config in [("ingest", {}), ("cut", {}), (f"train_{task}_classifier", training), ("evaluate", DRAWS)]:
        assert luna.run(job, run_config=config).success, job
    catalogue, report = luna.table("ct_series"), luna.table(f"{task}_report")
    assert set(catalogue["data_source"]) == {source}
    assert f"{task}_classifier" in set(report["model"])
    assert (report["num_candidates"] > 0).all()


@pytest.mark.slow
def test_two_sources_are_trained_on_together_and_a_shared_patient_is_in_one_fold(luna: Luna):
    shutil.rmtree(luna.data)
    # Equal seeds: the series of both are the same, so each scan belongs to the first; the twin has two more.
    make_twin(luna.data / "luna16", "luna16")
    make_twin(luna.data / "csv_and_folder", "csv_and_folder", num_series=8)
    # A scan of LUNA16 lies in the other source once more, under another name.
    original = sorted((luna.data / "luna16").glob("subset*/*.mhd"))[0]
    copy = luna.data / "csv_and_folder/copy.mhd"
    copy.write_text(original.read_text().replace(original.stem, "copy"))
    shutil.copy(original.with_suffix(".raw"), copy.with_suffix(".raw"))
    with (copy.parent / "scans.csv").open("a") as table:
        table.write("copy,another patient,,,\n")
    for job, config in [("ingest", {}), ("cut", {}), ("train_nodule_classifier", OF_NODULES), ("evaluate", DRAWS)]:
        assert luna.run(job, run_config=config).success, job
    catalogue, folds = luna.table("ct_series"), luna.table("folds")
    (pair,) = luna.table("same_scans").itertuples()
    assert {pair.series_a, pair.series_b} == {"copy", original.stem}
    assert folds.set_index("series_instance_uid")["fold"][[pair.series_a, pair.series_b]].nunique() == 1
    readable = catalogue[catalogue["is_readable"]]
    assert readable["data_source"].value_counts().to_dict() == {"luna16": 6, "csv_and_folder": 3}
    assert folds.groupby("patient_hash")["fold"].nunique().max() == 1
    index = luna.table("cutout_index").merge(readable[["series_instance_uid", "data_source"]])
    assert set(index["data_source"]) == {"luna16", "csv_and_folder"}
