"""Optimizers by name, for the parameters that are not frozen."""

import torch
from torch import nn

from luna_pipeline.core.training.parts import OPTIMIZERS, OptimizerConfig


def adamw(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return AdamW, with decoupled weight decay."""
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, betas=config.betas)


def sgd(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return stochastic gradient descent with momentum."""
    return torch.optim.SGD(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, momentum=config.momentum
    )


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer of a network's trainable parameters.

    Raises:
        ValueError: If there is no optimizer of that name, or no trainable parameter.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        msg = "A network must have parameters that learn, got none. Freeze less."
        raise ValueError(msg)
    build = OPTIMIZERS.get(config.name)
    optimizer: torch.optim.Optimizer = build(parameters, config)  # type: ignore[operator]
    return optimizer
