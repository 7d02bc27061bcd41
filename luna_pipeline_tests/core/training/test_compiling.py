"""``compute.is_compiled`` without the half minute of a compiler: how it is called, and what its errors say."""

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from luna_pipeline.core.training.building import initial_network
from luna_pipeline.core.training.compiling import compile_errors_in_one_line
from luna_pipeline.core.training.recipes import demo


def test_kernels_depend_neither_on_earlier_runs_nor_on_the_order_of_batch_sizes(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: calls.append("reset"))
    monkeypatch.setattr(torch, "compile", lambda call, **options: calls.append(options) or call)
    plain = initial_network(demo())
    assert calls == []
    network = initial_network(demo().with_changes({"compute.is_compiled": True}))
    assert calls == ["reset", {"dynamic": False}]
    assert network.state_dict().keys() == plain.state_dict().keys()


def test_an_error_of_the_compiler_is_one_line_with_what_to_do():
    lines = "InvalidCxxCompiler: No working C++ compiler\n\nSet TORCHDYNAMO_VERBOSE=1 ... reporting a bug to PyTorch"
    with (
        pytest.raises(RuntimeError, match=r"got InvalidCxxCompiler: No working .* Install a C") as caught,
        compile_errors_in_one_line(),
    ):
        raise TorchDynamoException(lines)
    assert "\n" not in str(caught.value)
    assert "bug" not in str(caught.value)
    with pytest.raises(RuntimeError, match=r"^another$"), compile_errors_in_one_line():
        raise RuntimeError("another")
