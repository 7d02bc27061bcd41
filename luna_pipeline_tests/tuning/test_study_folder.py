"""Folders of studies: never overwritten, resumed after a crash, locked by one process."""

import json
import os
from dataclasses import replace
from functools import partial

import pytest

from luna_pipeline.settings import Settings
from luna_pipeline.tuning.study_folder import StudyNote, study_folder

NOTE = StudyNote(digest="a" * 64, index_digest="b" * 64, test_fold=0, validation_fold=1, study={"seed": 0})


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(data_dir=tmp_path / "data", home=tmp_path / "home", mlflow_tracking_uri="")


def taken(
    settings: Settings, note: StudyNote = NOTE, *, resume: bool = True, complete: bool = False
) -> tuple[str, bool]:
    """Lock and release the folder of a study; return its version and whether it is new."""
    with study_folder(settings, "nodule_classifier", "0.0.1-fold0", note, resume=resume) as place:
        if complete:
            place.keep(replace(place.note(), is_complete=True))
        return place.folder.name, place.is_new


def test_a_study_that_was_lost_is_gone_on_with(settings):
    assert taken(settings) == ("0.0.1-fold0", True)
    assert taken(settings) == ("0.0.1-fold0", False)
    assert taken(settings, resume=False) == ("0.0.1-fold0+1", True)
    # The newer of two interrupted studies.
    assert taken(settings) == ("0.0.1-fold0+1", False)


def test_one_that_is_complete_stays_as_it_is(settings):
    assert taken(settings, complete=True) == ("0.0.1-fold0", True)
    assert taken(settings) == ("0.0.1-fold0+1", True)


@pytest.mark.parametrize(
    "change", [{"digest": "c" * 64}, {"index_digest": "c" * 64}, {"test_fold": 2}, {"validation_fold": 3}]
)
def test_another_study_is_not_gone_on_with(settings, change):
    taken(settings)
    assert taken(settings, replace(NOTE, **change)) == ("0.0.1-fold0+1", True)
    assert taken(settings) == ("0.0.1-fold0", False)


def test_an_unfinished_study_with_another_space_is_named_with_what_differs(settings, caplog):
    taken(settings, replace(NOTE, study={"seed": 0, "space": {"batch_size": [4, 8]}}))
    changed = {"digest": "c" * 64, "study": {"seed": 0, "space": {"batch_size": [4, 16]}}}
    assert taken(settings, replace(NOTE, **changed)) == ("0.0.1-fold0+1", True)
    assert [record.getMessage() for record in caplog.records] == [
        "The unfinished study nodule_classifier 0.0.1-fold0 is not resumed, a new one starts. What differs: space."
    ]
    caplog.clear()
    assert taken(settings, replace(NOTE, **changed)) == ("0.0.1-fold0+1", False)
    assert caplog.records == []


def test_its_mlflow_run_makes_no_other_study(settings):
    taken(settings)
    with study_folder(settings, "nodule_classifier", "0.0.1-fold0", NOTE, resume=True) as place:
        place.keep(replace(place.note(), mlflow_run_id="run"))
    with study_folder(settings, "nodule_classifier", "0.0.1-fold0", NOTE, resume=True) as place:
        assert place.note().mlflow_run_id == "run"
        assert not place.is_new


def test_one_that_somebody_works_on_is_left_alone(settings):
    with study_folder(settings, "nodule_classifier", "0.0.1-fold0", NOTE, resume=True):
        assert taken(settings) == ("0.0.1-fold0+1", True)


def test_what_is_written_is_found_by_people(settings):
    with study_folder(settings, "nodule_classifier", "0.0.1-fold0", NOTE, resume=True) as place:
        assert place.title == "nodule_classifier 0.0.1-fold0"
        assert place.write("best.json", b"{}") == settings.home / "tuning/nodule_classifier/0.0.1-fold0/best.json"
    assert json.loads((place.folder / "study.json").read_text())["study"] == {"seed": 0}
    assert (place.folder / "best.json").read_bytes() == b"{}"


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"digest": 5}', b"\xff", None, "fifo", "loop"])
def test_a_note_that_cannot_be_read_is_named_and_another_study_begins(settings, caplog, content):
    taken(settings)
    note = settings.home / "tuning/nodule_classifier/0.0.1-fold0/study.json"
    note.unlink()
    if isinstance(content, bytes):
        note.write_bytes(content)
    make = {None: note.mkdir, "fifo": partial(os.mkfifo, note), "loop": partial(note.symlink_to, note.name)}
    make.get(content, lambda: None)()
    assert taken(settings) == ("0.0.1-fold0+1", True)
    assert content == "loop" or "nodule_classifier 0.0.1-fold0 cannot be resumed: " in caplog.text
    assert content == "loop" or str(note) in caplog.text or "got a " in caplog.text
