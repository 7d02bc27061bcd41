import pytest
import torch
from torch import nn

from luna_pipeline.core.networks import batch_norm
from luna_pipeline.core.networks.batch_norm import BatchNorm, moments

CHANNELS = 3


def features(*, shape=(5, CHANNELS, 4, 6, 7), dtype=torch.float32, layout=torch.channels_last_3d):
    generator = torch.Generator().manual_seed(0)
    values = 100 + 30 * torch.randn(shape, generator=generator)
    return values.to(dtype).contiguous(memory_format=layout)


def norm(kind, dtype=torch.float32):
    layer = kind(CHANNELS).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -2.0, 1.0]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, -3.0]))
    return layer


def learned(layer, values):
    """Output, gradients and running statistics of a training step, in the default layout."""
    values = values.detach().clone().requires_grad_()
    output = layer(values)
    weights = torch.linspace(-1, 2, output.numel(), dtype=values.dtype).reshape(output.shape)
    (output * weights + output.square()).sum().backward()
    kept = (layer.running_mean, layer.running_var, layer.num_batches_tracked)
    return [value.detach().double() for value in (output, values.grad, layer.weight.grad, layer.bias.grad, *kept)]


# One part with all cutouts, or parts of a few, the last one smaller: 5 cutouts of 504 values.
@pytest.mark.parametrize("values_at_once", [2**20, 1100, 1])
def test_a_training_step_is_that_of_torch_in_float64(monkeypatch, values_at_once):
    monkeypatch.setattr(batch_norm, "_VALUES_AT_ONCE", values_at_once)
    found = learned(norm(BatchNorm), features())
    expected = learned(norm(nn.BatchNorm3d, torch.float64), features(dtype=torch.float64))
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=2e-5, atol=2e-5 * float(wanted.abs().max()))


def test_many_values_lose_no_digits():
    values = features(shape=(2, CHANNELS, 32, 96, 96))
    mean, variance = moments(values)
    exact = values.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean.double(), exact.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.double(), exact.var(1, correction=0), rtol=1e-6, atol=0)


def test_equal_values_have_no_variance():
    values = torch.full((4, CHANNELS, 2, 3, 5), -1000.0).contiguous(memory_format=torch.channels_last_3d)
    mean, variance = moments(values)
    assert mean.tolist() == [-1000.0] * CHANNELS
    assert variance.tolist() == [0.0] * CHANNELS


def test_the_layout_stays_channels_last():
    values = features().requires_grad_()
    output = norm(BatchNorm)(values)
    output.sum().backward()
    assert output.is_contiguous(memory_format=torch.channels_last_3d)
    assert values.grad.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(
    ("layout", "is_training"),
    [(torch.contiguous_format, True), (torch.contiguous_format, False), (torch.channels_last_3d, False)],
)
def test_torchs_own_way_is_taken_where_it_is_good(layout, is_training):
    layers = [norm(kind).train(is_training) for kind in (BatchNorm, nn.BatchNorm3d)]
    own, torchs = (layer(features(layout=layout)) for layer in layers)
    assert torch.equal(own, torchs)


def test_one_value_a_channel_is_refused_as_by_torch():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(BatchNorm)(features(shape=(1, CHANNELS, 1, 1, 1)))


def test_parameters_have_torchs_names():
    assert list(norm(BatchNorm).state_dict()) == list(norm(nn.BatchNorm3d).state_dict())
