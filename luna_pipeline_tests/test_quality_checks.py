"""Limits of the data set's quality as asset checks, and the job that describes the data."""

import dagster as dg
import pandas as pd

from luna_pipeline.core.quality.limits import LIMITS
from luna_pipeline.definitions import defs
from luna_pipeline.quality_checks import limit_results
from luna_pipeline_tests.core.quality.examples import scans_of
from luna_pipeline_tests.prepared import INGEST


def test_a_problem_fails_as_an_error_and_what_is_odd_as_a_warning():
    scans = scans_of({"fold": 0}, {"missing_slices": 1}, {"tilt_deg": 12.0})
    results = {result.check_name: result for result in limit_results(scans)}
    assert list(results) == [limit.name for limit in LIMITS]
    failed = {name: result.severity for name, result in results.items() if not result.passed}
    assert failed == {
        "no_missing_slices": dg.AssetCheckSeverity.ERROR,
        "axes_are_straight": dg.AssetCheckSeverity.WARN,
    }
    assert results["no_missing_slices"].metadata["broken"].value == {"1.1": "1"}
    assert "got 12 degrees (1.2)" in results["axes_are_straight"].description


def test_problems_of_voxels_that_were_not_read_are_warnings_and_others_say_that_nothing_was_known():
    unread = {"format": "metaimage", "is_hounsfield": None, "content_digest": None, "missing_slices": None}
    results = {result.check_name: result for result in limit_results(scans_of(unread, unread))}
    failed = {name: result.severity for name, result in results.items() if not result.passed}
    warn = dg.AssetCheckSeverity.WARN
    assert failed == {"voxels_are_hounsfield": warn, "no_scan_twice_across_folds": warn}
    assert results["no_missing_slices"].description.endswith(": not looked at, known of 0 of 2 scans.")
    assert results["slice_spacing"].description.endswith(": known of 2 of 2 scans.")
    counts = {name: result.metadata["num_known"].value for name, result in results.items()}
    assert (counts["voxels_are_hounsfield"], counts["no_missing_slices"], counts["slice_spacing"]) == (0, 0, 2)


def test_no_limit_blocks_what_follows():
    specs = [spec for checks in defs.asset_checks or () for spec in checks.check_specs]
    of_quality = [spec for spec in specs if spec.asset_key == dg.AssetKey("data_quality")]
    assert len(of_quality) == len(LIMITS)
    assert not any(spec.blocking for spec in of_quality)


def test_the_job_writes_table_page_and_plots_and_checks_every_limit(luna_after):
    luna = luna_after(INGEST)
    result = luna.run("describe_data")
    (event,) = result.asset_materializations_for_node("data_quality")
    metadata = event.metadata
    assert metadata["num_scans"].value == metadata["num_readable"].value == 6
    assert metadata["num_problems"].value == 0
    assert metadata["num_nodules"].value > 0
    assert metadata["plot_histogram"].value.startswith("![histogram, research use only](data:image/png;base64,")
    assert "Distance of slices, mm" in {row.data["fact"] for row in metadata["numbers"].records}
    # Dagster's pages show 100 kB of a text.
    assert max(len(str(value.value)) for value in metadata.values()) < 99_000
    table = pd.read_parquet(luna.home / "tables/data_quality.parquet")
    assert len(table) == 6
    assert table["is_hounsfield"].all()
    page = (luna.home / "data_quality/data_quality.html").read_text()
    assert "Research use only" in page
    assert "Synthetic data" in page
    evaluations = result.get_asset_check_evaluations()
    assert "Not looked at, as the value is known of no scan: no_missing_slices, slice_thickness, slices_touch," in page
    assert {evaluation.check_name for evaluation in evaluations} == {limit.name for limit in LIMITS}
    failed = {evaluation.check_name for evaluation in evaluations if not evaluation.passed}
    assert failed == {row.limit for row in pd.read_csv(luna.home / "data_quality/findings.csv").itertuples()}
    only = {dg.AssetCheckKey(dg.AssetKey("data_quality"), "noise")}
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection=only, asset_selection=set())
    again = job.execute_in_process(instance=luna.instance).get_asset_check_evaluations()
    assert [evaluation.check_name for evaluation in again] == ["noise"]
