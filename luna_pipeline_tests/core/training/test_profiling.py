"""A profile: a readable trace, the most expensive operators, the share of waiting for data."""

import json
import logging
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from luna_pipeline.core.events.messages import LogProfile
from luna_pipeline.core.training.profiling import StepProfiler, operator_table, waiting_share
from luna_pipeline_tests.core.recorder import Recorder


def slowly(samples):
    time.sleep(0.05)
    return torch.stack(samples)


def train(folder: Path, *, num_steps: int, steps_in_epoch: int = 12, collate_fn=torch.stack, **options) -> Recorder:
    recorder = Recorder()
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(54, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    loader = DataLoader(torch.zeros(2 * num_steps, 1, 8, 8, 8), batch_size=2, collate_fn=collate_fn)
    with StepProfiler(folder, handler=recorder, steps_in_epoch=steps_in_epoch, **options) as profiler:
        for batch in loader:
            optimizer.zero_grad()
            network(batch).sum().backward()
            optimizer.step()
            profiler.step()
    return recorder


def events_of(message: LogProfile) -> list[dict]:
    return json.loads(Path(message.trace_file).read_text())["traceEvents"]


def steps_of(message: LogProfile) -> set[str]:
    return {event["name"] for event in events_of(message) if event["name"].startswith("ProfilerStep#")}


def test_the_trace_is_chromes_json_with_the_convolutions_of_eight_steps(tmp_path):
    (message,) = train(tmp_path / "run", num_steps=14).of(LogProfile)
    events = events_of(message)
    convolutions = [event for event in events if event["name"] == "aten::conv3d"]
    assert len(convolutions) == 8
    assert all(event["ph"] == "X" and event["dur"] > 0 and event["ts"] > 0 for event in convolutions)
    assert steps_of(message) == {f"ProfilerStep#{number}" for number in range(2, 10)}
    assert [path.suffixes[-3:] for path in (tmp_path / "run").iterdir()] == [[".pt", ".trace", ".json"]]


def test_the_ten_dearest_operators_are_listed_under_a_header(tmp_path):
    (message,) = train(tmp_path, num_steps=12).of(LogProfile)
    lines = message.table.splitlines()
    assert lines[0].split() == ["operator", "share", "cpu", "ms", "calls"]
    assert len(lines) == 11
    assert "convolution" in message.table


def test_the_report_comes_when_the_last_step_is_traced_and_not_again(tmp_path):
    assert len(train(tmp_path / "a", num_steps=9).of(LogProfile)) == 1
    recorder = Recorder()
    with StepProfiler(tmp_path / "b", handler=recorder, steps_in_epoch=100, num_steps=2) as profiler:
        for _ in range(3):
            profiler.step()
        assert recorder.messages == []
        profiler.step()
        assert len(recorder.messages) == 1
        for _ in range(20):
            profiler.step()
    assert len(recorder.messages) == 1


@pytest.mark.parametrize(("steps_in_epoch", "traced"), [(1, {0}), (2, {1}), (3, {2}), (5, {2, 3, 4})])
def test_a_short_epoch_is_traced_to_its_end_and_no_further(tmp_path, steps_in_epoch, traced):
    (message,) = train(tmp_path, num_steps=7, steps_in_epoch=steps_in_epoch).of(LogProfile)
    assert steps_of(message) == {f"ProfilerStep#{number}" for number in traced}


def test_a_run_that_ends_before_a_step_is_traced_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        recorder = train(tmp_path / "run", num_steps=1)
    assert recorder.messages == []
    assert "there is no profile" in caplog.text
    assert not (tmp_path / "run").exists()


def test_an_error_in_training_passes_and_what_was_traced_is_kept(tmp_path):
    recorder = Recorder()

    def fail():
        with StepProfiler(tmp_path, handler=recorder, steps_in_epoch=100) as profiler:
            for _ in range(4):
                profiler.step()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert len(recorder.of(LogProfile)) == 1


def test_an_epoch_without_steps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="A profile must have a training step, got 8 of 0 in an epoch"):
        StepProfiler(tmp_path, handler=Recorder(), steps_in_epoch=0)


def test_a_slow_loader_is_most_of_the_time(tmp_path):
    num_threads = torch.get_num_threads()
    # Several threads of so small a step wait for each other on a busy machine.
    torch.set_num_threads(1)
    try:
        (message,) = train(tmp_path, num_steps=12, collate_fn=slowly).of(LogProfile)
    finally:
        torch.set_num_threads(num_threads)
    # Eight steps wait 0.05 s each; the step itself takes a hundredth of that.
    assert 0.5 < message.waiting_share < 1


def entry(key: str, cpu_us: float, *, gpu_us: float = 0.0, total_us: float = 0.0, count: int = 1) -> SimpleNamespace:
    return SimpleNamespace(
        key=key, count=count, self_cpu_time_total=cpu_us, self_device_time_total=gpu_us, cpu_time_total=total_us
    )


def test_shares_are_of_all_operators_and_the_loader_is_none():
    averages = [
        entry("aten::add", 1000.0, count=3),
        entry("aten::conv3d", 3000.0, count=2),
        entry("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 9000.0),
        entry("ProfilerStep*", 500.0),
    ]
    assert [line.split() for line in operator_table(averages).splitlines()[1:]] == [
        ["aten::conv3d", "75.0", "%", "3.0", "2"],
        ["aten::add", "25.0", "%", "1.0", "3"],
    ]


def test_where_there_is_a_gpu_its_time_counts():
    averages = [entry("cpu", 9000.0, gpu_us=1000.0), entry("gpu", 10.0, gpu_us=3000.0)]
    lines = operator_table(averages, num_operators=1).splitlines()
    assert [line.split() for line in lines] == [
        ["operator", "share", "gpu", "ms", "calls"],
        ["gpu", "75.0", "%", "3.0", "1"],
    ]


def test_waiting_is_the_loaders_part_of_the_steps():
    averages = [
        entry("ProfilerStep*", 0.0, total_us=8000.0),
        entry("enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", 0.0, total_us=2000.0),
        entry("aten::conv3d", 0.0, total_us=5000.0),
    ]
    assert waiting_share(averages) == 0.25
    assert waiting_share([]) == 0.0
