"""Files of a study that cannot be read are named; other entries of its folders are ignored."""

import json
import os

import pytest

from luna_pipeline.tuning.records import EpochScore, TrialEnd, TrialProgress, TrialRecords
from luna_pipeline.tuning.study import Variant

SCORE = EpochScore(epoch=1, score=0.5, auc=0.5, cpm=float("nan"), loss=1.0, seconds=2.0)


@pytest.fixture
def records(tmp_path):
    records = TrialRecords(tmp_path)
    records.keep(TrialProgress(variant=Variant(3, {"seed": 1}), epochs=(SCORE,)))
    records.end(TrialEnd(trial=3, changes={"seed": 1}, state="finished"))
    return records


def test_other_entries_of_the_folder_are_ignored(records, tmp_path):
    folder = tmp_path / "trials"
    os.mkfifo(folder / "0004.json")
    (folder / "0005.json").mkdir()
    (folder / "0006.json").symlink_to("0006.json")
    for name in (b"\xff.json", "²".encode() + b".json", b"9" * 200 + b".json", b"0007.json.bak", b"_ended.json"):
        with open(os.path.join(os.fsencode(folder), name), "wb"):
            pass
    assert list(records.all_progress()) == list(records.ended()) == [3]
    assert records.next_number() == 4


@pytest.mark.parametrize(
    "change",
    [{"epochs": 5}, {"epochs": [{"epoch": 1}]}, {"epochs": [None]}, {"changes": [1]}, {"error": ..., "more": 1}],
)
def test_a_file_of_a_trial_with_other_entries_is_named(records, tmp_path, change):
    path = tmp_path / "trials/0003.json"
    values = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))
    with pytest.raises(ValueError, match=r"must hold its entries, got .*0003\.json\)\. Remove it"):
        records.all_progress()


@pytest.mark.parametrize("score", ["a", None, [1]])
def test_a_score_of_another_type_is_named(records, tmp_path, score):
    path = tmp_path / "trials/0003.json"
    values = json.loads(path.read_text())
    values["epochs"][0]["score"] = score
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"as a score \(.*0003\.json\)"):
        records.all_progress()


def test_a_torn_file_of_a_trial_is_named(records, tmp_path):
    for name in ("0003.json", "0003_ended.json"):
        (tmp_path / "trials" / name).write_text('{"trial": 3')
    with pytest.raises(ValueError, match=r"0003\.json"):
        records.all_progress()
    with pytest.raises(ValueError, match=r"0003_ended\.json"):
        records.ended()
