"""A series that is there but not in the index is named with its reason, and the checks are not green."""

import dagster as dg

from luna_pipeline_tests.installation import Luna
from luna_pipeline_tests.prepared import CUT, INDEX, INGEST

TABLES = ("candidates_V2.csv", "annotations.csv", "annotations_with_malignancy.csv")


def _checks(*results: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str]]:
    """Result and text of each check of some runs by its name."""
    events = [event for result in results for event in result.all_events]
    data = [e.asset_check_evaluation_data for e in events if e.event_type_value == "ASSET_CHECK_EVALUATION"]
    return {check.check_name: (check.passed, check.description or "") for check in data}


def test_each_lost_series_is_named_with_its_reason_and_the_checks_are_not_green(luna_after):
    luna: Luna = luna_after(INGEST, CUT, INDEX)
    first = _checks(luna.run("ingest"), luna.run("index"))
    assert {passed for passed, _ in first.values()} == {True}
    orders = [said for _, said in first.values() if any(word in said for word in (" must ", "Run ", "Repair", "Fix"))]
    assert orders == [], "the text of a passed check says what holds"
    broken, gone, without_rows = luna.uids[:3]
    raw = next(path for path in luna.files_of_ct(broken) if path.suffix == ".raw")
    raw.write_bytes(raw.read_bytes()[:1000])
    for path in luna.files_of_ct(gone):
        path.unlink()
    for table in TABLES:
        luna.edit(table, lambda rows: rows[rows["seriesuid"] != without_rows])
    ingest, cut, index = (luna.run(job) for job in ("ingest", "cut", "index"))
    assert (ingest.success, cut.success, index.success) == (True, False, True)
    (made,) = index.get_asset_materialization_events()
    left_out = made.materialization.metadata["left_out"].value
    assert sorted(left_out) == sorted([broken, gone, without_rows])
    assert "got 1000" in left_out[broken]
    assert "luna prune" in left_out[gone]
    assert "rejected" in left_out[without_rows]
    found = _checks(ingest, index)
    failed = {name: said for name, (passed, said) in found.items() if not passed}
    assert set(failed) == {"every_ct_is_readable", "no_ct_is_gone", "cutouts_are_whole"}
    assert all(uid in failed["cutouts_are_whole"] for uid in left_out)
    (failure,) = [event.step_failure_data.error for event in cut.all_events if event.is_step_failure]
    named = f"series {broken}: {left_out[broken]}"
    assert f"got 1 of 5 that failed: {named}" in failure.message
    assert f"got 1 unreadable of 5: {named}" in failed["every_ct_is_readable"]
