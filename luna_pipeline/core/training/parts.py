"""Parts of a run's configuration, validated on creation; torch is not imported."""

from dataclasses import dataclass

from luna_pipeline.core.config.checks import (
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_text,
    check_tuple,
)
from luna_pipeline.core.config.registry import Registry

OPTIMIZERS: Registry[object] = Registry(
    "optimizer", {name: f"luna_pipeline.core.training.optimizers:{name}" for name in ("adamw", "sgd")}
)
SCHEDULERS: Registry[object] = Registry(
    "scheduler",
    {
        name: f"luna_pipeline.core.training.schedulers:{name}"
        for name in ("constant", "exponential", "step", "cosine", "one_cycle", "plateau")
    },
)
LOADERS = ("file", "mlflow")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Optimizer and its parameters.

    Attributes:
        name: ``adamw``, ``sgd``, or a registered one (``OPTIMIZERS``).
        learning_rate: Initial learning rate.
        weight_decay: Decoupled decay (AdamW) or L2 penalty (SGD).
        betas: Decay of AdamW's two running means; SGD ignores it.
        momentum: SGD's momentum; AdamW ignores it.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9

    def __post_init__(self) -> None:
        OPTIMIZERS.check(self.name)
        check_number("optimizer.learning_rate", self.learning_rate, "(0, 1]")
        check_number("optimizer.weight_decay", self.weight_decay, "[0, 1]")
        check_number("optimizer.momentum", self.momentum, "[0, 1)")
        check_tuple("optimizer.betas", self.betas, "two numbers", example="[0.9, 0.999]")
        if len(self.betas) != 2:
            msg = f"optimizer.betas must be two numbers, got {self.betas}. Give the decay of both running means."
            raise ValueError(msg)
        for position, beta in enumerate(self.betas):
            check_number(f"optimizer.betas[{position}]", beta, "[0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Schedule of the learning rate.

    Attributes:
        name: ``constant``; ``exponential`` (times ``gamma`` after each epoch); ``step`` (times ``gamma`` after each
            ``step_epochs`` epochs); ``cosine`` (down to ``final_share`` at the end of the run, step by step);
            ``one_cycle`` (up for 30 % of the run, then down, step by step); ``plateau`` (times ``gamma`` when the
            validation score did not rise for ``step_epochs`` validated epochs); or a registered one (``SCHEDULERS``).
        gamma: Factor on the learning rate; 1 keeps it. 0.9 after each of ten epochs leaves a third; 0.1 after each of
            four leaves a ten-thousandth, with which the network hardly learns.
        step_epochs: Epochs of ``step`` and ``plateau``.
        final_share: Final share of the learning rate for ``cosine`` and ``one_cycle``.
    """

    name: str = "exponential"
    gamma: float = 0.9
    step_epochs: int = 3
    final_share: float = 0.01

    def __post_init__(self) -> None:
        SCHEDULERS.check(self.name)
        check_number("scheduler.gamma", self.gamma, "(0, 1]")
        if self.name == "plateau" and self.gamma == 1:
            msg = f"scheduler.gamma must be below 1 for plateau, got {self.gamma}. Lower it, or take `constant`."
            raise ValueError(msg)
        check_integer("scheduler.step_epochs", self.step_epochs, at_least=1)
        check_number("scheduler.final_share", self.final_share, "(0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippingConfig:
    """Limits of the gradients; None for no limit.

    Attributes:
        norm: Largest L2 norm of all gradients together; the norm before clipping is logged.
        value: Largest absolute value of each number, clipped before the norm.
    """

    norm: float | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        for name, limit in (("norm", self.norm), ("value", self.value)):
            if limit is not None:
                check_number(f"clipping.{name}", limit, "(0, inf)")


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStoppingConfig:
    """Condition that ends a run before its last epoch.

    Attributes:
        patience: Validated epochs in a row without a better score that end the run; None trains all epochs.
        min_delta: Smallest rise above the best score so far that counts as better; smaller rises do not add up.
    """

    patience: int | None = None
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience is not None:
            check_integer("early_stopping.patience", self.patience, at_least=1)
        check_number("early_stopping.min_delta", self.min_delta, "[0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeConfig:
    """Precision and memory format, which affect the last digits of results.

    Attributes:
        mixed_precision: 16-bit arithmetic on CUDA devices; a CPU computes in float32.
        channels_last: Memory format in which convolutions are faster; results differ only by rounding.
        is_compiled: Whether to compile the network by ``torch.compile`` (half a minute; a CPU needs a C++ compiler).
    """

    mixed_precision: bool = False
    channels_last: bool = True
    is_compiled: bool = False

    def __post_init__(self) -> None:
        for name in ("mixed_precision", "channels_last", "is_compiled"):
            check_flag(f"compute.{name}", getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class StartConfig:
    """Initial weights of a run; without a name they are random.

    Attributes:
        loader: ``file`` (below LUNA_HOME/checkpoints) or ``mlflow`` (the model registry).
        name: Name of the run that trained them.
        version: Version of that run.
        new_head: Whether to re-initialise the last layer, for another task than that of the weights.
    """

    loader: str = "file"
    name: str | None = None
    version: str | None = None
    new_head: bool = False

    def __post_init__(self) -> None:
        check_choice("start.loader", self.loader, LOADERS)
        check_flag("start.new_head", self.new_head)
        for name in ("name", "version"):
            if getattr(self, name) is not None:
                check_text(f"start.{name}", getattr(self, name))
        if (self.name is None) != (self.version is None):
            msg = f"start.name and start.version must be given together, got {self.name!r} and {self.version!r}."
            raise ValueError(f"{msg} Name the run to begin with by both.")
