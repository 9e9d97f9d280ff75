"""One experiment as a frozen, typed, validated value.

A configuration says *what* is computed. Where the run goes (`--runs-dir`, `--name`) and what it is
computed on (`--device`) are not part of it, so that the same configuration is the same experiment
everywhere.
"""

import contextlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=10**9)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Decay = Annotated[float, Field(ge=0, lt=1)]
WeightDecayOn = Literal["all", "weights"]


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def _absolute(source: str) -> str:
    """Make a file source independent of the directory that the command is started in."""
    scheme, separator, rest = source.partition(":")
    if scheme in ("idx", "npz") and rest:
        path = Path(rest)
        with contextlib.suppress(RuntimeError):  # the ~ of an unknown user stays as it is
            path = path.expanduser()
        return f"{scheme}{separator}{path.absolute()}"
    return source


class Data(Section):
    """Which images, and how they become the x of the model."""

    source: Annotated[str, AfterValidator(_absolute)] = Field(
        "digits-5k", pattern=r"^(digits-5k|(tfds|idx|npz):[^\x00\n]+)$"
    )
    """`digits-5k` (embedded), `tfds:NAME`, `idx:DIR` or `npz:FILE`."""
    binarization: Literal["threshold", "stochastic", "none"] = "threshold"
    """`threshold`: 1 where a pixel is at least `threshold`. `stochastic`: a Bernoulli draw with the
    pixel as its probability, anew in each training epoch, fixed for validation and test. `none`:
    the pixels themselves as probabilities."""
    threshold: float = Field(0.5, gt=0, le=1)
    """For `threshold`, as a fraction of full intensity."""
    train_size: Count | None = None
    """The first so many images of the training split; null: all that validation leaves."""
    validation_size: Count | None = None
    """The last so many images of the training split; null: a sixth (10,000 of MNIST's 60,000)."""
    test_size: Count | None = None
    """The first so many images of the test split; null: all."""


class Model(Section):
    """The MLP encoder and decoder."""

    code_size: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Dimensions of the latent code z; the paper has 2 and 20."""
    hidden_size: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """Units of the one hidden layer on each side."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of the hidden layers."""
    weight_init: Literal["lecun_normal", "lecun_uniform"] = "lecun_normal"
    """Variance 1/fan-in; `lecun_uniform` is the paper's, uniform in ±sqrt(3/fan-in)."""
    bias_init: Literal["zeros", "unit_uniform"] = "zeros"
    """`unit_uniform` is the paper's, uniform in ±sqrt(3): variance 1."""


class Objective(Section):
    """The negative evidence lower bound."""

    samples: Annotated[int, Field(ge=1, le=100_000)] = 1
    """L, the samples of z per image in the estimate of E[log p(x|z)]."""


class Schedule(Section):
    """What the learning rate is multiplied by as training goes on."""

    name: Literal["constant", "cosine"] = "constant"
    """After the warm-up: stay at 1, or fall to `final` along half a cosine."""
    warmup_epochs: NonNegative = 0.0
    """The learning rate rises linearly from zero over so many epochs; 0: no warm-up."""
    final: float = Field(0.0, ge=0, le=1)
    """Where `cosine` ends, as a fraction of the learning rate."""


class Hyperparameters(Section):
    """What every optimizer has."""

    learning_rate: Positive
    """The paper's by default."""
    gradient: Literal["mean", "sum"] = "mean"
    """Over the images of a batch. The paper's RMSProp and AdaGrad take the sum."""


class Adam(Hyperparameters):
    """Kingma & Ba 2015."""

    learning_rate: Positive = 1e-3
    b1: Decay = 0.9
    """Decay of the first moment."""
    b2: Decay = 0.999
    """Decay of the second moment."""
    eps: NonNegative = 1e-8
    """Added to the root of the second moment."""
    eps_root: NonNegative = 0.0
    """Added to the second moment, under the root."""
    nesterov: bool = False
    """NAdam: look ahead by one step of momentum."""
    bias_correction: bool = True
    """False: moments as they are, which start at zero (the paper's code)."""


class RMSProp(Hyperparameters):
    """Tieleman & Hinton 2012."""

    learning_rate: Positive = 1e-3
    decay: Decay = 0.9
    """Of the running mean of squared gradients."""
    eps: NonNegative = 1e-8
    """Keeps the divisor from zero."""
    eps_in_root: bool = True
    """Whether `eps` is added under the root, or to it."""
    initial_scale: NonNegative = 0.0
    """The running mean starts here."""
    bias_correction: bool = False
    """Correct the running mean for where it started, as Adam does."""
    centered: bool = False
    """Divide by the standard deviation of the gradient instead of its root mean square."""
    momentum: Decay = 0.0
    """On the scaled gradient."""
    nesterov: bool = False
    """Look ahead by one step of momentum."""


class AdaGrad(Hyperparameters):
    """Duchi, Hazan & Singer 2011."""

    learning_rate: Positive = 1e-2
    initial_accumulator: NonNegative = 0.1
    """The sum of squared gradients starts here."""
    eps: NonNegative = 1e-7
    """Added to the sum, under the root."""


class SGD(Hyperparameters):
    """Stochastic gradient descent with momentum."""

    learning_rate: Positive = 5e-4
    momentum: Decay = 0.9
    nesterov: bool = False
    """Look ahead by one step of momentum."""
    decay_in_momentum: bool = False
    """Weight decay joins the gradient before the momentum (the paper's code) and not after it."""
    reset_each_epoch: bool = False
    """Momentum is set to zero when an epoch starts (the paper's code)."""


class Optimizer(Section):
    """The one that trains, what all share, and the hyperparameters of each.

    A section for each optimizer, so that `--optimizer` alone moves a configuration from one to
    another, each with hyperparameters of its own.
    """

    name: Literal["adam", "rmsprop", "adagrad", "sgd"] = "adam"
    weight_decay: NonNegative = 0.0
    """Decoupled: each step takes `learning rate * weight_decay * parameter` away."""
    weight_decay_on: WeightDecayOn = "all"
    """Which parameters decay: `all`, or `weights`, which leaves the biases out."""
    clip_norm: Positive | None = None
    """Gradients of a larger global norm are scaled down to it; null: never."""
    bias_learning_rate_scale: NonNegative = 1.0
    """Biases learn at so many times the learning rate; the paper's code has 2."""
    schedule: Schedule = Schedule()
    adam: Adam = Adam()
    rmsprop: RMSProp = RMSProp()
    adagrad: AdaGrad = AdaGrad()
    sgd: SGD = SGD()

    @property
    def chosen(self) -> Hyperparameters:
        """The section that `name` names."""
        section: Hyperparameters = getattr(self, self.name)
        return section


class Checkpoint(Section):
    """When the state is saved."""

    every: Count = 10
    """Epochs between saves; the last epoch is always saved. The best epoch by validation ELBO
    is remembered at every epoch and written at the next save."""
    every_seconds: Positive | None = 600.0
    """Seconds after which the state is saved though no such epoch ended, inside a long epoch too;
    null: only as `every` says."""


class Config(Section):
    """One experiment."""

    seed: int = Field(0, ge=0, lt=2**32)
    """All randomness is a function of it."""
    epochs: Annotated[int, Field(ge=1, le=10**6)] = 50
    """Passes over the training split."""
    batch_size: Annotated[int, Field(ge=1, le=10**7)] = 100
    """Images per step; the last batch of an epoch may be smaller."""
    data: Data = Data()
    model: Model = Model()
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    checkpoint: Checkpoint = Checkpoint()
