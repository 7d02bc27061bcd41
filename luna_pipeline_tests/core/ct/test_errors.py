import pytest

from luna_pipeline.core.ct.errors import UnreadableCtError, failure_of


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
