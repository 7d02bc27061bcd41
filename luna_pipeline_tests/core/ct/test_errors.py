import errno
import pickle

import pytest

from luna_pipeline.core.ct.errors import TransientFailure, UnreadableCtError, failure_of
from luna_pipeline.core.cutouts.workers import killed


@pytest.mark.parametrize(
    "error",
    [
        UnreadableCtError("A CT must be whole, got half"),
        OSError(28, "No space left on device"),
        ValueError("Each centre must lie in the CT, got (1, 2, 3)"),
    ],
)
def test_what_is_raised_for_the_user_is_the_reason_itself(error: Exception) -> None:
    assert failure_of(error, "1.2.3") == str(error)


def test_a_file_that_cannot_be_opened_is_named() -> None:
    reason = failure_of(OSError(36, "File name too long", "/data/" + "a" * 300), "1.2.3")

    assert reason.startswith("Files of a series must be readable, got: File name too long (aaa")
    assert reason.endswith("aaa, series 1.2.3). Check the file's name, its rights and its disk.")
    assert len(reason) < 300


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("division by zero"),
        RecursionError("maximum recursion depth exceeded"),
        ValueError("cannot convert float NaN to integer"),
        OverflowError("cannot convert float infinity to integer"),
        KeyError("size"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
def test_a_fault_of_the_program_is_named_as_one(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LUNA_DEBUG", raising=False)
    reason = failure_of(error, "1.2.3")

    assert reason.startswith(f"A series must be processed without an unforeseen error, got {type(error).__name__}: ")
    assert "(series 1.2.3). Report it" in reason
    assert "\n" not in reason
    assert capsys.readouterr().err == ""


def test_debugging_prints_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNA_DEBUG", "1")

    failure_of(ZeroDivisionError("division by zero"), "1.2.3")

    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_a_series_too_large_for_the_memory_fails_alone_and_in_one_line() -> None:
    reason = failure_of(MemoryError("Unable to allocate\n2 TiB"), "1.2.3")

    assert reason.startswith("A series must fit into memory, got: Unable to allocate 2 TiB (series 1.2.3).")


@pytest.mark.parametrize(
    ("error", "is_transient"),
    [
        (UnreadableCtError("A CT must be whole, got half"), False),
        (ValueError("Each centre must lie in the CT, got (1, 2, 3)"), False),
        (OSError(errno.EACCES, "Permission denied", "/data/1.mhd"), False),
        (ZeroDivisionError("division by zero"), False),
        (OSError(errno.EIO, "Input/output error", "/data/1.mhd"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (ConnectionError("A store must answer, got none"), True),
        (MemoryError(), True),
    ],
)
def test_only_what_may_pass_without_a_change_of_the_file_is_transient(error: Exception, is_transient: bool) -> None:
    reason = pickle.loads(pickle.dumps(failure_of(error, "1.2.3")))
    assert isinstance(reason, TransientFailure) == is_transient


def test_a_series_whose_worker_was_killed_may_be_cut_next_time() -> None:
    assert isinstance(killed("1.2.3"), TransientFailure)
