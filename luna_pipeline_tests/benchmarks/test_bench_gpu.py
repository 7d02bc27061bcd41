import pytest
import torch
from torch.profiler import ProfilerActivity

from benchmarks import bench_gpu
from benchmarks.training_data import TrainingWorkload

TINY = TrainingWorkload(
    chunk_shape_irc=(8, 8, 8), num_series=2, cutouts_of_series=12, batch_size=8, conv_channels=2, n_blocks=2
)


def test_without_a_device_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    bench_gpu.main()
    assert capsys.readouterr().out == "bench-gpu: there is no CUDA device, nothing was measured.\n"


def test_all_ways_and_parts_are_measured(monkeypatch, capsys):
    """On the CPU, with the calls that need a device replaced; without compilation, which needs a compiler."""
    monkeypatch.setattr(bench_gpu.torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(bench_gpu.torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(bench_gpu, "ACTIVITIES", [ProfilerActivity.CPU])
    monkeypatch.setattr(bench_gpu, "NUM_WORKERS", 0)
    monkeypatch.setattr(bench_gpu, "WAYS", {"float32": {}})
    monkeypatch.setattr(bench_gpu, "load", lambda data, epoch: list(data.get_training_dataloader(epoch=epoch)))
    monkeypatch.setattr(bench_gpu, "has_device", lambda: True)
    bench_gpu.main(TINY)
    lines = capsys.readouterr().out.splitlines()
    parts = [line.split(",")[0] for line in lines[2:]]
    assert parts == ["loading to the device", "training", "evaluation"]
    assert all(float(line.split()[-3]) > 0 for line in lines[2:])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_device_is_measured(capsys):
    bench_gpu.main(TINY)
    assert len(capsys.readouterr().out.splitlines()) == 2 + 3 * len(bench_gpu.WAYS)
