"""Content of the plots of a study."""

import io
import math
import warnings

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image

from luna_pipeline.core.training.recipes import demo
from luna_pipeline.tuning.plots import importance_png, parallel_coordinates_png
from luna_pipeline_tests.tuning.made_studies import RATES, made_study, made_table

SPACE = {
    "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "network.dropout_rate": {"uniform": [0.0, 0.5]},
    "network.name": {"choices": ["luna", "se_resnet", "convnext"]},
    "batch_size": {"choices": [4, 8, 1024]},
}
STUDY = made_study(SPACE)


def tried(rate: float, dropout: float, name: str, size: int) -> dict:
    return dict(zip(SPACE, (rate, dropout, name, size), strict=True))


# The demo has rate 0.001, dropout 0.2, luna and 8.
TRIED = [
    ({}, 0.5),
    (tried(0.01, 0.4, "convnext", 1024), 0.7),
    (tried(0.0001, 0.0, "se_resnet", 4), 0.3),
    (tried(0.005, 0.1, "luna", 4), math.nan),
]


@pytest.fixture
def drawn(figures):
    """Draw the table of a study and return the axes."""

    def draw(study=STUDY, trials=TRIED, **options) -> Axes:
        parallel_coordinates_png(made_table(study, trials), study, **options)
        return figures[-1].axes[0]

    return draw


def heights_of(axes: Axes, *, linewidth: float | None = None, linestyle: str = "-") -> list[list[float]]:
    """Heights of the trials' lines, the worst first."""
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2 or line.get_zorder() > 0]
    return [
        np.asarray(line.get_ydata()).tolist()
        for line in lines
        if line.get_linestyle() == linestyle and linewidth in (None, line.get_linewidth())
    ]


def marks_of(axes: Axes, position: int) -> dict[str, float]:
    """Labels of an axis, and their heights."""
    texts = [text for text in axes.texts if math.floor(text.get_position()[0]) == position]
    return {text.get_text(): text.get_position()[1] for text in texts}


@pytest.mark.parametrize(
    "draw", [lambda: parallel_coordinates_png(made_table(STUDY, TRIED), STUDY), lambda: importance_png({"a": 1.0})]
)
def test_a_picture_is_a_small_png_and_the_same_each_time(draw):
    picture = draw()
    assert Image.open(io.BytesIO(picture)).format == "PNG"
    assert len(picture) < 75_000
    assert picture == draw()


@pytest.mark.parametrize(
    ("is_synthetic", "note"), [(False, "research use only"), (True, "research use only, synthetic data")]
)
def test_pictures_say_what_they_may_be_used_for(figures, is_synthetic, note):
    parallel_coordinates_png(made_table(STUDY, TRIED), STUDY, is_synthetic=is_synthetic)
    importance_png({"seed": 1.0}, is_synthetic=is_synthetic)
    assert [figure.get_supxlabel() for figure in figures] == [note, note]


def test_there_is_an_axis_a_place_and_one_for_the_score(drawn):
    axes = drawn()
    names = ["optimizer\nlearning_rate", "network\ndropout_rate", "network\nname", "batch_size", "CPM"]
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert axes.get_xticks().tolist() == [0, 1, 2, 3, 4]
    assert [line.get_xdata() for line in axes.lines if line.get_zorder() == 0] == [[place, place] for place in range(5)]


def test_the_score_is_called_by_its_name(drawn):
    axes = drawn(made_study(SPACE, metric="auc"))
    assert axes.get_xticklabels()[-1].get_text() == "AUC"
    assert axes.get_title() == "Validation AUC of 3 trials; 1 more without a score"


def test_each_trial_with_a_score_is_a_line_through_what_it_tried(drawn):
    axes = drawn()
    # On a log scale 0.001 is half way from 0.0001 to 0.01.
    assert heights_of(axes, linewidth=2.6) == [pytest.approx([1.0, 1.0, 1.0, 1.0, 1.0])]
    assert heights_of(axes, linestyle="--") == [pytest.approx([0.5, 0.5, 0.0, 4 / 1020, 0.5])]
    assert heights_of(axes, linewidth=1.0) == [pytest.approx([0.0, 0.0, 0.5, 0.0, 0.0])]


def test_the_winner_and_the_recipe_stand_in_the_legend(drawn):
    axes = drawn()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["the recipe as it is", "the winner, trial 1"]
    colours = [handle.get_color() for handle in axes.get_legend().legend_handles]
    assert len(set(colours)) == 2


def test_a_recipe_that_won_is_said_to_be_the_winner(drawn):
    axes = drawn(trials=[({}, 0.9), *TRIED[1:]])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["the winner, trial 0: the recipe as it is"]
    assert heights_of(axes, linestyle="--") == []


def test_the_better_a_trial_the_darker_its_line(drawn):
    space = {"network.dropout_rate": {"uniform": [0.0, 0.5]}}
    trials = [({"network.dropout_rate": score / 2}, score) for score in (0.1, 0.5, 0.2, 0.4, 0.3)]
    axes = drawn(made_study(space), trials)
    shades = {line.get_ydata()[1]: line.get_alpha() for line in axes.lines if line.get_zorder() == 1}
    # The worst of the five is the recipe, the best the winner; the others are evenly spaced.
    assert [shades[height] for height in sorted(shades)] == pytest.approx(
        [0.15 + 0.75 * share for share in (1 / 4, 2 / 4, 3 / 4)]
    )


def test_axes_name_values_as_people_write_them(drawn):
    axes = drawn()
    assert marks_of(axes, 0) == pytest.approx({"0.0001": 0.0, "0.001": 0.5, "0.01": 1.0})
    assert marks_of(axes, 1) == pytest.approx({"0": 0.0, "0.2": 0.5, "0.4": 1.0})
    # In their given order, not alphabetically.
    assert marks_of(axes, 2) == pytest.approx({"luna": 0.0, "se_resnet": 0.5, "convnext": 1.0})
    assert marks_of(axes, 4) == pytest.approx({"0.3": 0.0, "0.5": 0.5, "0.7": 1.0})


def test_a_name_that_would_lie_on_another_is_left_out_and_the_ends_never(drawn):
    # 8 is at 0.004, 1024 at 1.
    assert list(marks_of(drawn(), 3)) == ["4", "1024"]
    trials = [({"batch_size": size}, size / 2000) for size in (1024, 1020, 8, 4)]
    assert list(marks_of(drawn(made_study({"batch_size": SPACE["batch_size"]}), trials), 0)) == ["4", "1024"]


def test_of_many_values_five_next_to_even_heights_are_named(drawn):
    study = made_study({"network.dropout_rate": {"uniform": [0.0, 0.5]}})
    trials = [
        ({"network.dropout_rate": step / 100}, 0.5 + step / 1000) for step in (0, 3, 7, 11, 13, 19, 24, 29, 33, 40)
    ]
    names = marks_of(drawn(study, trials), 0)
    assert list(names) == ["0", "0.11", "0.19", "0.29", "0.4"]
    assert list(marks_of(drawn(study, trials[:8]), 0)) == ["0", "0.03", "0.07", "0.11", "0.13", "0.19", "0.24", "0.29"]


def test_close_scores_have_the_digits_that_tell_them_apart(drawn):
    study = made_study({"seed": {"integers": [0, 9]}})
    assert list(marks_of(drawn(study, [({}, 0.8121), ({"seed": 3}, 0.8124)]), 1)) == ["0.8121", "0.8124"]


def test_long_words_are_cut_where_they_are_alike(drawn):
    options = [[["blocks_per_level", 1]], [["blocks_per_level", 2]]]
    study = made_study({"network.options": {"choices": options}})
    trials = [({"network.options": (("blocks_per_level", size),)}, size / 10) for size in (1, 2)]
    assert list(marks_of(drawn(study, trials), 0)) == ["(('block…_level', 1),)", "(('block…_level', 2),)"]


def test_names_on_the_picture_do_not_touch(figures):
    space = {
        **SPACE,
        "loss.name": {"choices": ["cross_entropy", "weighted_cross_entropy", "focal"]},
        "network.options": {"choices": [[], [["blocks_per_level", 1], ["b", 2]], [["blocks_per_level", 2], ["b", 2]]]},
    }
    study, random = made_study(space), np.random.default_rng(0)
    parallel_coordinates_png(
        made_table(study, [(study.space.sample(random), random.normal()) for _ in range(30)]), study
    )
    boxes = _boxes(figures[-1].axes[0])
    assert len(boxes) > 30
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place])


def _boxes(axes: Axes) -> list:
    legend = axes.get_legend().get_texts()
    texts: list[Text] = [*axes.texts, *axes.get_xticklabels(), *legend, axes.title, *axes.figure.texts]
    assert all(text.get_text() for text in texts)
    return [text.get_window_extent() for text in texts]


def test_a_zero_lies_below_all_that_has_a_logarithm(drawn):
    study = made_study(
        {"optimizer.weight_decay": {"log_uniform": [1e-5, 1e-1]}},
        base=demo().with_changes({"optimizer.weight_decay": 0}),
    )
    axes = drawn(study, [({}, 0.5), ({"optimizer.weight_decay": 0.003}, 0.6), ({"optimizer.weight_decay": 0.03}, 0.7)])
    below = math.log10(3) / (math.log10(3) + 1)
    assert marks_of(axes, 0) == pytest.approx({"0": 0.0, "0.003": below, "0.03": 1.0})


def test_a_recipe_without_a_value_has_a_gap_there(drawn):
    study = made_study({"clipping.norm": {"log_uniform": [0.1, 10]}, **RATES})
    trials = [({"clipping.norm": norm, "optimizer.learning_rate": 0.002}, norm / 10) for norm in (1.0, 2.0)]
    axes = drawn(study, [({}, 0.05), *trials])
    assert heights_of(axes, linestyle="--") == [pytest.approx([math.nan, 0.0, 0.0], nan_ok=True)]
    assert list(marks_of(axes, 0)) == ["1", "2"]


def test_a_choice_that_is_not_among_them_stands_above_all(drawn):
    axes = drawn(
        made_study({"network.name": {"choices": ["se_resnet", "convnext"]}}),
        [
            ({}, 0.5),
            ({"network.name": "convnext"}, 0.6),
            ({"network.name": "se_resnet"}, 0.7),
        ],
    )
    assert marks_of(axes, 0) == pytest.approx({"se_resnet": 0.0, "convnext": 0.5, "luna": 1.0})


@pytest.mark.parametrize("study", [STUDY, made_study({"clipping.norm": {"uniform": [0.1, 10]}})])
def test_a_study_of_one_trial_is_a_level_line(drawn, study):
    axes = drawn(study, [({}, 0.5)])
    assert axes.get_title() == "Validation CPM of 1 trial"
    assert heights_of(axes)[0][-1] == 0.5
    assert set(marks_of(axes, len(study.space.domains))) == {"0.5"}


@pytest.mark.parametrize("trials", [[], [({}, math.nan)]])
def test_a_study_without_a_score_is_axes_alone(drawn, trials):
    axes = drawn(trials=trials)
    assert heights_of(axes) == []
    assert axes.get_legend() is None
    assert len(axes.get_xticks()) == 5
    assert len(axes.texts) == 0


def test_importances_are_bars_the_largest_on_top(figures):
    importance_png({"optimizer.learning_rate": 0.75, "batch_size": 0.25})
    axes = figures[-1].axes[0]
    tops = {label.get_text(): label.get_position()[1] for label in axes.get_yticklabels()}
    assert tops["optimizer.learning_rate"] > tops["batch_size"]
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.75]
    assert [text.get_text() for text in axes.texts] == ["0.25", "0.75"]


def test_too_few_trials_are_said_to_be(figures):
    with warnings.catch_warnings():
        # For example that the layout does not fit.
        warnings.simplefilter("error")
        importance_png({})
    axes = figures[-1].axes[0]
    assert [text.get_text() for text in axes.texts] == ["too few trials to tell"]
    box = axes.texts[0].get_window_extent()
    assert axes.get_window_extent().contains(box.x0, box.y0)
    assert axes.get_window_extent().contains(box.x1, box.y1)
    assert len(axes.patches) == 0
