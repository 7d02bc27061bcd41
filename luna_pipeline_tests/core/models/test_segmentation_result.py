import numpy as np
import pytest

from luna_pipeline.core.metrics.decision import UNDECIDED
from luna_pipeline.core.models.base import SplitResult
from luna_pipeline.core.models.segmentation_result import (
    NOT_LOOKED_FOR,
    SegmentationResult,
    count_false,
    is_middle_found,
)


def result(**values) -> SegmentationResult:
    """Four crops: two nodules, of which one is found, and two tiles of one scan with three false components."""
    numbers = {
        "candidate_id": [1, 2, 3, 4],
        "labels": [1, 1, 0, 0],
        "scores": [0.9, 0.2, 0.8, 0.1],
        "losses": [0.5, 1.5, 1.0, 1.0],
        "groups": [2, 2, 0, 0],
        "num_common": [10, 0, 0, 0],
        "num_predicted": [12, 0, 8, 0],
        "num_true": [20, 10, 0, 0],
        "is_found": [1, 0, NOT_LOOKED_FOR, NOT_LOOKED_FOR],
        "num_false": [0, 0, 3, 0],
        "scan_share": [0.0, 0.0, 1.5, 1.5],
    }
    return SegmentationResult(**{name: np.array(value) for name, value in {**numbers, **values}.items()})


def test_metrics_by_hand():
    assert result().metrics() == {
        "loss": 1.0,
        "dice": pytest.approx(2 * 10 / (12 + 8 + 20 + 10)),
        "lesion_recall": 0.5,
        "false_candidates_per_scan": 4.5,
        # Crops of nodules 20 / 32 and 0; tiles 0 with a false candidate and 1 without.
        "crop_dice": pytest.approx(((20 / 32 + 0) / 2 + (0 + 1) / 2) / 2),
    }
    assert result().selection_score() == result().metrics()["crop_dice"]
    assert result().decision() is UNDECIDED


def test_training_has_loss_and_dice_only():
    training = result(is_found=[NOT_LOOKED_FOR] * 4, scan_share=[0.0] * 4)
    assert list(training.metrics()) == ["loss", "dice"]


def test_one_voxel_called_nodule_costs_a_tile():
    small = result(num_predicted=[12, 0, 1, 0])
    none = result(num_predicted=[12, 0, 0, 0])
    assert none.selection_score() - small.selection_score() == pytest.approx(0.25)


def test_nothing_to_find_and_nothing_found_is_right_and_finite():
    zeros = dict.fromkeys(("num_common", "num_predicted", "num_true"), [0] * 4)
    assert result(**zeros).selection_score() == 1.0


def test_parts_are_joined_with_all_values():
    joined = SegmentationResult.joined([result(), result(candidate_id=[5, 6, 7, 8])])
    assert isinstance(joined, SegmentationResult)
    assert joined.candidate_id.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert joined.num_false.tolist() == [0, 0, 3, 0, 0, 0, 3, 0]
    assert isinstance(joined, SplitResult)


def array(text: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in line] for line in text.split()])


@pytest.mark.parametrize(
    ("predicted", "true", "is_found", "num_false"),
    [
        ("..... ..... ..... ..... .....", "..... ..#.. .###. ..#.. .....", False, 0),
        ("..... ..#.. ..... ..... #....", "..... ..#.. .###. ..#.. .....", True, 1),
        # Components that touch by a corner are one.
        ("#.... .#... ..#.. ..... ....#", "..... ..... ..#.. ..... .....", True, 1),
        # Another nodule of the crop is not the one in the middle; to find it is not false.
        ("....# ..... ..... ..... .....", "....# ..... ..#.. ..... .....", False, 0),
        ("#.#.# ..... #.#.# ..... #.#.#", "..... ..... ..... ..... .....", False, 9),
    ],
)
def test_the_middle_lesion_and_false_components(predicted, true, is_found, num_false):
    assert is_middle_found(array(predicted), array(true)) is is_found
    assert count_false(array(predicted), array(true)) == num_false
    volumes = [np.stack([np.zeros((5, 5), dtype=bool), array(text)])[[0, 1, 0]] for text in (predicted, true)]
    assert is_middle_found(*volumes) is is_found
    assert count_false(*volumes) == num_false
