import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import bench_training, training_report
from benchmarks.training_data import NODULE_EVERY, TrainingWorkload, make_training_site
from benchmarks.training_derived import RECORDED_RATIOS, baseline, goals, ratios
from benchmarks.training_report import BEGIN, END, fill, text_of
from benchmarks.training_steps import deviations
from benchmarks.training_worker import KINDS
from benchmarks.tutorial_training import TutorialCutouts, TutorialNetwork, moved, with_noise
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network

TINY = TrainingWorkload(
    chunk_shape_irc=(4, 8, 8),
    num_series=3,
    cutouts_of_series=12,
    num_loaded=10,
    batch_size=6,
    num_evaluated=12,
    num_equal_steps=3,
    conv_channels=2,
    n_blocks=2,
    repeats=1,
    has_compiled=False,
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return bench_training.measure_all(TINY, parts=list(bench_training.PARTS), folder=tmp_path_factory.mktemp("bench"))


def section(**medians_ms):
    return {name: {"median_ms": value} for name, value in medians_ms.items()}


STEPS = {
    "training": section(tutorial=3400, tutorial_huge_pages=3000, tutorial_no_trim=2000, project=1600),
    "evaluation": section(tutorial=800, tutorial_huge_pages=400, tutorial_no_trim=500, project=250),
    "losses": {"training": {"tutorial": 0.0, "project": 2e-5}, "evaluation": {"tutorial": 0.0, "project": 2e-4}},
}


def test_every_way_took_some_time(results):
    timings = [*results["loading"].values(), *results["steps"]["training"].values()]
    assert len(timings) == 12
    assert all(timing["median_ms"] > 0 and len(timing["runs_ms"]) == TINY.repeats for timing in timings)
    assert list(results["steps"]["evaluation"]) == [kind.name for kind in KINDS if not kind.is_compiled]


def test_project_and_tutorial_load_the_same_voxels(results):
    assert results["is_loading_equal"] is True


def test_project_and_tutorial_have_the_same_losses(results):
    for part in ("training", "evaluation"):
        assert all(deviation <= 1e-4 for deviation in results["steps"]["losses"][part].values())
    assert results["steps"]["losses"]["training"].keys() == results["steps"]["training"].keys()


def test_an_epoch_tells_how_long_it_waited(results):
    assert results["epoch"]["num_batches"] == math.ceil(2 * TINY.cutouts_of_series / TINY.batch_size)
    assert 0 < results["epoch"]["share_waiting"] < 1


def test_text_json_and_picture(results, tmp_path):
    bench_training.write(results, tmp_path)
    assert json.loads((tmp_path / "training.json").read_text())["epoch"] == results["epoch"]
    with Image.open(tmp_path / "training.png") as picture:
        assert picture.width > 2 * picture.height
    text = text_of(results)
    assert all(f"== {name}" in text for name in ("loading", "steps", "epoch", "baseline", "goals"))


def test_the_page_is_filled_between_its_marks(results, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    fill(page, results)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert text.count("| training, times the tutorial as it is |") == 1
    page.write_text("no marks")
    with pytest.raises(ValueError, match="must have the marks"):
        fill(page, results)


def test_the_page_in_docs_has_the_marks():
    text = bench_training.PAGE.read_text()
    assert training_report.BEGIN in text
    assert training_report.END in text


def test_both_forms_hold_the_same_cutouts_and_every_sixth_a_nodule(tmp_path):
    site = make_training_site(tmp_path / "site", TINY)
    assert site.index["class"].tolist() == [int(row % NODULE_EVERY == 0) for row in range(36)]
    dataset = TutorialCutouts(site.table, is_augmented=False)
    for position in (0, 13, 35):
        row = site.index.iloc[position]
        chunk = site.store.read(row["series_instance_uid"]).ct_chunks[row["row"]]
        np.testing.assert_array_equal(dataset[position].candidate[0].numpy(), chunk.astype(np.float32))
        assert dataset[position].labels.tolist() == [1 - row["class"], row["class"]]


def test_the_tutorials_matrix_mirrors_an_axis_exactly():
    chunk = torch.arange(2 * 4 * 6, dtype=torch.float32).reshape(1, 2, 4, 6)
    mirrored = moved(chunk, torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0])))
    torch.testing.assert_close(mirrored, chunk.flip(3), atol=1e-4, rtol=0)


def test_the_tutorials_noise_is_never_negative_and_below_its_strength():
    noise = with_noise(torch.zeros(1, 8, 8, 8))
    assert 0 <= float(noise.min()) < float(noise.max()) < 25


def test_the_tutorials_network_has_the_projects_weights_and_logits():
    config = NetworkConfig(chunk_shape_irc=(4, 8, 8), n_blocks=2, conv_channels=2, dropout_rate=0.0)
    project = build_network(config)
    tutorial = TutorialNetwork((4, 8, 8), conv_channels=2, n_blocks=2, dropout_rate=0.0)
    tutorial.load_state_dict(project.state_dict(), strict=True)
    chunks_hu = 100 * torch.randn(5, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tutorial(chunks_hu)[0], project(chunks_hu), atol=1e-6, rtol=1e-4)


def test_a_way_is_held_to_the_faster_of_the_tuned_tutorials():
    found = ratios({"steps": STEPS})
    assert found["training"]["project"] == {"times_tutorial": 2.125, "times_tuned_tutorial": 1.25}
    assert found["evaluation"]["project"] == {"times_tutorial": 3.2, "times_tuned_tutorial": 1.6}


def test_goals_say_what_is_met_and_what_is_missed():
    found = goals({"steps": STEPS, "epoch": {"share_waiting": 0.04}})
    assert [goal["is_met"] for goal in found] == [True, True, True, True, True, False, False]
    assert found[2]["value"] == 2e-5


def test_the_baseline_is_compared_by_ratios_within_the_tutorials_way():
    steps = {"training": section(tutorial=4338, tutorial_huge_pages=2000, tutorial_no_trim=9000)}
    steps["evaluation"] = section(tutorial=2000, tutorial_huge_pages=900, tutorial_no_trim=800)
    found = baseline({"steps": steps, "workload": {"num_evaluated": 128, "batch_size": 64}})
    plain = found["evaluation : training, as it is"]
    assert plain["ratio"] == 4.34
    assert plain["is_within_tolerance"]
    assert found["evaluation : training, malloc tuned"]["ratio"] == 5.0
    assert RECORDED_RATIOS["loading, not augmented : augmented"] == pytest.approx(5.9, abs=0.01)


def test_a_deviation_is_the_largest_of_all_losses():
    found = deviations({"tutorial": [0.5, 0.25], "project": [0.5, 0.375]})
    assert found == {"tutorial": 0.0, "project": 0.125}


def test_a_part_that_is_not_there_is_refused(capsys, tmp_path):
    with pytest.raises(SystemExit):
        bench_training.main(["--out", str(tmp_path), "--only", "loading,nonsense"])
    assert "nonsense" in capsys.readouterr().err
