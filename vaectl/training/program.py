"""The program that training compiles to, and what may differ without compiling again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, UInt32

from vaectl.base.errors import ConfigError
from vaectl.config.schema import Config
from vaectl.evaluation.means import Estimator
from vaectl.models.base import ImageShape
from vaectl.objectives.base import Objective
from vaectl.optimizers._shared import OptimizerChoice
from vaectl.vae.vae import VAE, Variables

MOST_STEPS = 2**31 - 1
"""The largest number that the counter of a state can hold."""


class TrainState(NamedTuple):
    """Everything that a step changes and a checkpoint holds."""

    params: Variables
    """Every array of the network."""
    optimizer: optax.OptState
    step: Int32[Array, ""]


class Member(NamedTuple):
    """The numbers that may differ between runs of one compiled program."""

    seed: UInt32[Array, ""]
    learning_rate: Float[Array, ""]

    @classmethod
    def of(cls, settings: Config) -> Member:
        """Return the one member of an ordinary run."""
        return cls(
            seed=jnp.asarray(settings.seed, jnp.uint32),
            learning_rate=jnp.asarray(settings.optimizer.chosen.learning_rate, jnp.float32),
        )


@dataclass(frozen=True)
class Program:
    """The program that training compiles to, as a value: equal programs compile once."""

    vae: VAE
    objective: Objective
    samples: int
    """L, the number of samples of z per image."""
    optimizer: OptimizerChoice
    """The optimizer with a learning rate of 1; a member has its own."""
    stochastic: bool
    """True if each step draws the pixels of its batch anew."""
    batch_size: int
    epochs: int
    images: int

    @classmethod
    def of(cls, settings: Config, *, images: int, image_shape: ImageShape) -> Program:
        """Return the program of a configuration for so many training images of a shape."""
        return cls(
            vae=VAE(
                settings.model.chosen,
                settings.likelihood.chosen,
                settings.model.code_size,
                image_shape,
            ),
            objective=settings.objective.chosen,
            samples=settings.objective.samples,
            optimizer=settings.optimizer.alone().with_chosen(learning_rate=1.0),
            stochastic=settings.data.binarization == "stochastic",
            # no more than there are: a larger batch would be padding
            batch_size=min(settings.batch_size, images),
            epochs=settings.epochs,
            images=images,
        )

    @property
    def estimator(self) -> Estimator:
        """The quantity that is evaluated after each epoch."""
        return Estimator(self.vae, self.objective, self.samples)

    @property
    def pixels(self) -> int:
        """The number of values in an image."""
        return self.vae.pixels

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches that cover all images once; the last one may be short."""
        return -(-self.images // self.batch_size)

    @property
    def steps(self) -> int:
        """The number of steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def check_steps(self) -> None:
        """Refuse more steps than the counter of a state can count.

        Raises:
            ConfigError: there are more, or the warm-up alone has more.
        """
        warmup = self.optimizer.schedule.warmup_epochs
        for key, epochs in (("epochs", self.epochs), ("optimizer.schedule.warmup_epochs", warmup)):
            if epochs * self.steps_per_epoch > MOST_STEPS:
                raise ConfigError(
                    f"{key} {epochs:g}: more than {MOST_STEPS:,} steps, "
                    f"at {self.steps_per_epoch:,} an epoch",
                    hint=f"lower {key}, or raise batch_size",
                )
