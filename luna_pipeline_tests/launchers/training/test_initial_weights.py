"""Training from another run's weights: adopted and trained layers, rejected sources."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from luna_pipeline.core.datasets.splits import TrainingSplit
from luna_pipeline.core.training.config import MalignantRatio, StartConfig
from luna_pipeline.launchers import LunaMalignantClassificationLauncher, RunOptions
from luna_pipeline.launchers.seen_data import unseen_fold
from luna_pipeline.launchers.training.initial_weights import continued, full_name

QUIET = RunOptions(show_progress=False)


@pytest.fixture
def rated(home):
    """Return the home's data with ratings: every other nodule is malignant, one has no rating."""
    index = home.index.copy()
    index["is_malignant"] = pd.array([pd.NA] * len(index), dtype="boolean")
    nodules = np.flatnonzero(index["class"] == 1)
    index.loc[nodules, "is_malignant"] = np.arange(len(nodules)) % 2 == 0
    index.loc[nodules[-1], "is_malignant"] = pd.NA
    return {**home.data, "index": index}


@pytest.fixture
def launcher(home):
    return LunaMalignantClassificationLauncher(home.path, options=QUIET)


@pytest.fixture
def malignancy(small_config):
    return small_config.with_changes(
        name="malignancy_classifier",
        dataset="malignant_cutouts",
        ratio=MalignantRatio(malignant=1, benign=1, non_nodule=1),
    )


def head_and_backbone(checkpoint):
    state = checkpoint.model_state
    is_head = {name: name.startswith("luna_head.") for name in state}
    return {n: v for n, v in state.items() if is_head[n]}, {n: v for n, v in state.items() if not is_head[n]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("classification", "nodule_classifier"),
        ("Classification", "nodule_classifier"),
        ("malignant classification", "malignancy_classifier"),
        ("Malignant_Classification", "malignancy_classifier"),
        ("book_nodule_classifier", "book_nodule_classifier"),
    ],
)
def test_the_tutorials_names_stand_for_the_classifiers(name, expected):
    assert full_name(name) == expected


@pytest.mark.seed_defect(52, 56, 59)
def test_for_another_question_a_new_head_learns_alone_and_nothing_else_moves(launcher, rated, small_config, malignancy):
    source = launcher.fit(small_config, **rated).checkpoint
    start = StartConfig(name="classification", version="0.0.1")
    tuned = launcher.load_fit(malignancy, start=start, **rated).checkpoint

    assert (tuned.config.frozen, tuned.config.start.new_head) == ("backbone", True)
    assert tuned.config.start.name == "nodule_classifier"
    (old_head, old), (new_head, new) = head_and_backbone(source), head_and_backbone(tuned)
    assert all(torch.equal(value, old[name]) for name, value in new.items())
    assert not any(torch.equal(value, old_head[name]) for name, value in new_head.items())
    assert tuned.notes.startswith("Began with the weights of nodule_classifier 0.0.1.")


def test_for_the_same_question_everything_goes_on_learning_from_the_old_head(launcher, rated, small_config):
    source = launcher.fit(small_config, **rated).checkpoint
    start = StartConfig(name="classification", version="0.0.1")
    tiny = small_config.with_changes({"optimizer.learning_rate": 1e-6, "num_epochs": 1})
    further = launcher.load_fit(tiny, start=start, **rated).checkpoint

    assert (further.config.frozen, further.config.start.new_head) == ("nothing", False)
    head, backbone = head_and_backbone(further)
    old_head, old_backbone = head_and_backbone(source)
    assert all(torch.allclose(value, old_head[name], atol=1e-4) for name, value in head.items())
    weight = "luna_blocks.0.conv1.weight"
    assert not torch.equal(backbone[weight], old_backbone[weight])


def test_a_continued_version_of_the_same_name_leaves_its_source_where_it_is(launcher, rated, small_config):
    source = launcher.fit(small_config, **rated)
    before = source.path.read_bytes()
    start = StartConfig(name="classification", version="0.0.1")
    further = launcher.load_fit(small_config, start=start, **rated)
    assert (further.version, further.checkpoint.name) == ("0.0.1+1", "nodule_classifier")
    assert source.path.read_bytes() == before


def test_everything_may_learn_for_another_question_where_that_is_wanted(launcher, rated, small_config, malignancy):
    source = launcher.fit(small_config, **rated).checkpoint
    config = continued(malignancy, source, loader="file", head_only=False)
    assert (config.frozen, config.start.new_head) == ("nothing", True)
    assert config.network == source.config.network


@pytest.mark.seed_defect(2)
def test_weights_that_have_seen_a_held_out_fold_are_refused(launcher, rated, small_config):
    launcher.fit(small_config, **rated)
    start = StartConfig(name="classification", version="0.0.1")
    for split, part in (
        (TrainingSplit(test_fold=2, validation_fold=0), "test"),
        (TrainingSplit(test_fold=1, validation_fold=0), "test"),
        (TrainingSplit(test_fold=0, validation_fold=3), "validation"),
    ):
        with pytest.raises(ValueError, match=f"must not have seen the {part} fold, got 2 such series"):
            launcher.load_fit(small_config, start=start, **{**rated, "split": split})


@pytest.mark.seed_defect(2)
def test_what_the_first_weights_have_seen_is_passed_on(launcher, rated, small_config, malignancy):
    source = launcher.fit(small_config, **rated).checkpoint
    start = StartConfig(name="classification", version="0.0.1")
    tuned = launcher.load_fit(malignancy, start=start, **rated).checkpoint
    assert tuned.inherited_training_series == source.training_series
    assert tuned.inherited_validation_series == source.validation_series
    assert not tuned.has_unknown_origin
    strange = replace(tuned, training_series=[], validation_series=[])
    assert unseen_fold(strange, rated["index"]) == 0


@pytest.mark.seed_defect(17)
def test_nodules_without_a_rating_are_left_out_of_malignancy(launcher, rated, malignancy):
    checkpoint = launcher.fit(malignancy, **rated).checkpoint
    index = rated["index"]
    unrated = index[(index["class"] == 1) & index["is_malignant"].isna()]["candidate_id"]
    learned = set(checkpoint.training_candidate_ids.tolist())
    assert len(unrated) == 1
    assert not learned & set(unrated)


def test_an_interrupted_run_of_borrowed_weights_goes_on_with_them(launcher, home, rated, small_config, malignancy):
    launcher.fit(small_config, **rated)
    start = StartConfig(name="classification", version="0.0.1")
    expected = launcher.load_fit(malignancy, start=start, **rated, resume=False).checkpoint

    def interrupt(line):
        if line.startswith("epoch 2/2 training"):
            raise KeyboardInterrupt

    broken = LunaMalignantClassificationLauncher(home.path, options=RunOptions(show_progress=interrupt))
    with pytest.raises(KeyboardInterrupt):
        broken.load_fit(malignancy, start=start, **rated, resume=False)
    resumed = launcher.load_fit(malignancy, start=start, **rated)
    assert resumed.version == "0.0.1+1"
    for name, value in expected.model_state.items():
        assert torch.equal(resumed.checkpoint.model_state[name], value), name


def test_what_is_wanted_to_learn_learns_whatever_was_frozen_before(launcher, rated, small_config, malignancy):
    source = launcher.fit(small_config, **rated).checkpoint
    frozen = malignancy.with_changes(frozen="backbone")
    assert continued(frozen, source, loader="file", head_only=False).frozen == "nothing"
    norms = malignancy.with_changes(frozen="batch_norm")
    assert continued(norms, source, loader="file", head_only=False).frozen == "batch_norm"
