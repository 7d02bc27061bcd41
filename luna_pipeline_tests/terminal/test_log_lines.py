"""Lines of a log: records, progress, the reason of a failure, the scores."""

import pytest

from luna_pipeline.terminal.log_lines import Counter, counter_of, reason_of, record_of, scores_in

ID = "0b5b059e-88a2-4f60-84b0-97ed8d28d471"
TIME = "2026-11-30 17:42:53 +0000 - dagster"


def test_a_line_with_a_time_is_a_record_and_others_belong_to_the_one_before():
    first = record_of(f"{TIME} - INFO - demo - {ID} - cut_phantom - `cut`: 36 series - 1 failed", None)
    assert (first.level, first.text) == ("INFO", "demo.cut_phantom: `cut`: 36 series - 1 failed")
    second = record_of("cut 1.2.3: 22 candidates", first)
    assert (second.text, second.is_first) == ("demo.cut_phantom: cut 1.2.3: 22 candidates", False)
    assert record_of("INFO mlflow: Creating tables", None).text == ": INFO mlflow: Creating tables"


def test_warnings_and_errors_are_for_the_user_but_not_dagsters_account_of_a_failed_step():
    def is_warning(level: str, message: str) -> bool:
        return record_of(f"{TIME} - {level} - cut - {ID} - 8164 - cutouts - {message}", None).is_warning

    assert is_warning("WARNING", "The CT of series 1.2.3 is gone")
    assert is_warning("ERROR", "Series 1.2.3 failed: unreadable")
    assert not is_warning("INFO", "cut 1.2.3")
    assert not is_warning("ERROR", 'STEP_FAILURE - Execution of step "cutouts" failed.')
    canceled = f'{TIME} - ERROR - demo - {ID} - 8164 - RUN_CANCELED - Execution of run for "demo" canceled.'
    assert not record_of(canceled, None).is_warning
    error = record_of(f"{TIME} - ERROR - cut - {ID} - cutouts - Series failed", None)
    assert not record_of("a traceback", error).is_warning


@pytest.mark.parametrize(
    ("message", "counter"),
    [
        ("Synthetic series 9 of 36: 2.25.1", Counter(0.25, "9 of 36")),
        ("epoch 2/5 training: 50 % (25 of 50 batches), loss 0.1", Counter(0.3, "epoch 2 of 5")),
        ("epoch 2/5 validation: loss 0.17, auc 0.96", Counter(0.4, "epoch 2 of 5")),
        ("Features of 155 of 620 candidates.", Counter(0.25, "155 of 620")),
        ("Scan 1 of 7: 1.2.3", Counter(1 / 7, "1 of 7")),
        ("4 of 8 trials ended: trial 3 finished", Counter(0.5, "4 of 8")),
        ("Pooled: fold 0 of 5", None),
    ],
)
def test_progress_is_read_from_messages(message, counter):
    assert counter_of(message) == counter


def test_the_reason_of_a_failure_is_the_cause_of_the_first_failed_step():
    log = f"""{TIME} - INFO - ingest - {ID} - ct_series - reading
{TIME} - ERROR - ingest - {ID} - 8164 - ct_series - STEP_FAILURE - Execution of step "ct_series" failed.

dagster._core.errors.DagsterExecutionStepExecutionError: Error occurred while executing op "ct_series"::
  File "stage_1_ct.py", line 3, in ct_series
The above exception was caused by the following exception:
FileNotFoundError: There must be CTs, got none. Set LUNA_DATA_DIR.
{TIME} - ERROR - demo - {ID} - 8164 - ingest_phantom - STEP_FAILURE - Execution of step "ingest_phantom" failed.

dagster._core.definitions.events.Failure: Run of `ingest` failed
Error: Run {ID} resulted in failure.
"""
    assert reason_of(log) == "There must be CTs, got none. Set LUNA_DATA_DIR."


def test_the_reason_without_a_failed_step_is_the_last_error_or_line():
    assert reason_of("Traceback:\nModuleNotFoundError: No module named 'dagster'\n") == "No module named 'dagster'"
    assert reason_of("Usage: dg\n\nNo such option\n\n") == "No such option"
    assert reason_of("") == "no message"


def test_scores_are_the_last_table_and_where_the_results_lie():
    old = "Untouched test folds: old\n  1  old\n\n"
    new = "Untouched test folds: fold 0 of 5\n  1  network\n\nCheckpoint   best.pt\nMLflow run   1\nReport       r\n"
    assert scores_in(f"a\n{old}b\n{new}") == [
        "Untouched test folds: fold 0 of 5",
        "  1  network",
        "Checkpoint   best.pt",
        "Report       r",
    ]
    assert scores_in("nothing") == []
