"""The program that training compiles to, and what may differ without compiling again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32, UInt32

from vaectl.base import mesh
from vaectl.base.errors import ConfigError, DataError
from vaectl.config.schema import Config
from vaectl.evaluation.means import Estimator
from vaectl.models.base import ImageShape
from vaectl.objectives.base import Objective
from vaectl.optimizers._shared import OptimizerChoice
from vaectl.vae.vae import VAE, Variables

MOST_STEPS = 2**31 - 1
"""The largest number that the counter of a state can hold."""
MOST_CLASSES = 256
"""The most classes that a model can be told; each image has its own in a byte."""


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
    numbers: Mapping[str, Float[Array, ""]] = {}
    """Other settings of the optimizer, by key; only those of `Program.traced`."""

    @classmethod
    def of(cls, settings: Config, traced: Sequence[str] = ()) -> Member:
        """Return the one member of an ordinary run, or of one whose other settings are traced."""
        optimizer = settings.optimizer
        numbers = {key: optimizer.value(key) for key in traced}
        return _member(settings.seed, optimizer.chosen.learning_rate, numbers)


def _member(seed: int, learning_rate: float, numbers: Mapping[str, float]) -> Member:
    """Bring the numbers of a member to the device; JAX compiles nothing for NumPy's numbers."""
    of_numpy = {key: np.float32(value) for key, value in numbers.items()}
    member: Member = jax.device_put(
        Member(np.uint32(seed), np.float32(learning_rate), of_numpy)  # type: ignore[arg-type]
    )
    return member


def _told(settings: Config, classes: int) -> int:
    """Return how many classes the model is told."""
    if settings.model.condition == "none":
        return 0
    if not classes:
        raise DataError(
            f"model.condition is label, and not all images of {settings.data.source} have a class, "
            "a number from 0",
            hint="--set model.condition=none, or images with classes: see vaectl data prepare",
        )
    if classes > MOST_CLASSES:
        raise DataError(
            f"{settings.data.source} has classes up to {classes - 1:,}, and a model can be told "
            f"those below {MOST_CLASSES}",
            hint="number the classes from 0, or --set model.condition=none",
        )
    return classes


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
    bfloat16: bool = False
    """True if the matrix products of a step are in bfloat16."""
    microbatches: int = 1
    """The parts of a batch whose gradients are computed one at a time, or on several devices."""
    mesh: Mesh | None = None
    """The devices that share each batch; None for a single one."""
    traced: tuple[str, ...] = ()
    """The optimizer's keys whose values a member has: with other values it is the same program."""

    @classmethod
    def of(
        cls,
        settings: Config,
        *,
        images: int,
        image_shape: ImageShape,
        classes: int = 0,
        devices: Sequence[jax.Device] = (),
        traced: Sequence[str] = (),
    ) -> Program:
        """Return the program of a configuration.

        Devices share each batch if it has micro-batches; `traced` are keys that `traceable` finds.
        """
        return cls(
            vae=VAE(
                settings.model.chosen,
                settings.likelihood.chosen,
                settings.prior.chosen,
                settings.model.code_size,
                image_shape,
                _told(settings, classes),
            ),
            objective=settings.objective.chosen,
            samples=settings.objective.samples,
            optimizer=settings.optimizer.alone().without(traced),
            stochastic=settings.data.binarization == "stochastic",
            # not more than the images: the rest of a larger batch would be padding
            batch_size=min(settings.batch_size, images),
            epochs=settings.epochs,
            images=images,
            bfloat16=settings.model.precision == "bfloat16",
            microbatches=settings.microbatches,
            mesh=mesh.of(devices) if settings.microbatches > 1 else None,
            traced=tuple(traced),
        )

    @property
    def somebody(self) -> Member:
        """A placeholder member, for code that needs only the shapes of its numbers."""
        return _member(0, 0.0, dict.fromkeys(self.traced, 0.0))

    def optimizer_of(self, member: Member) -> OptimizerChoice:
        """Return the optimizer with the numbers of a member."""
        return self.optimizer.with_values(member.numbers)

    @property
    def estimator(self) -> Estimator:
        """The quantity that is evaluated after each epoch."""
        return Estimator(self.vae, self.objective, self.samples, mesh=self.mesh)

    @property
    def row(self) -> int:
        """The bytes of an image: see `VAE.row`."""
        return self.vae.row

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches that cover all images once; the last one may be short."""
        return -(-self.images // self.batch_size)

    @property
    def steps(self) -> int:
        """The number of steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def check(self) -> None:
        """Refuse more steps than the counter of a state can count, and batches without equal parts.

        Raises:
            ConfigError: there are more steps, or the warm-up alone has more; or a batch cannot be
                cut into micro-batches.
        """
        if self.batch_size % self.microbatches:
            raise ConfigError(
                f"microbatches {self.microbatches}: does not divide {self.batch_size}, the images "
                "of a batch",
                hint="set batch_size to a multiple of microbatches, and not more than the images",
            )
        devices = self.mesh.size if self.mesh else 1
        if self.microbatches % devices:
            raise ConfigError(
                f"microbatches {self.microbatches}: {devices} devices cannot share them equally",
                hint=f"set microbatches to {2 ** math.ceil(math.log2(devices))} or more, and use "
                "2, 4, 8, ... devices",
            )
        warmup = self.optimizer.schedule.warmup_epochs
        for key, epochs in (("epochs", self.epochs), ("optimizer.schedule.warmup_epochs", warmup)):
            if epochs * self.steps_per_epoch > MOST_STEPS:
                raise ConfigError(
                    f"{key} {epochs:g}: more than {MOST_STEPS:,} steps, "
                    f"at {self.steps_per_epoch:,} an epoch",
                    hint=f"lower {key}, or raise batch_size",
                )


@lru_cache(maxsize=256)
def traceable(optimizer: OptimizerChoice, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of an optimizer whose values need not be known to compile its program.

    These are the numbers that only enter computations. Numbers that decide what is computed, such
    as whether gradients are clipped, are excluded; so is the learning rate, on which no program
    depends.
    """
    numbers = [key for key in keys if type(optimizer.value(key)) is float]
    found = [key for key in numbers if key != "learning_rate"]
    return tuple(key for key in found if _is_traceable(optimizer.without(()), key))


def _is_traceable(optimizer: OptimizerChoice, key: str) -> bool:
    params = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}

    def update(value: Array) -> Any:
        transform = optimizer.with_values({key: value}).direction()
        return transform.update(params, transform.init(params), params)

    try:
        jax.eval_shape(update, jnp.float32(0.5))
    except Exception:  # a rule may ask anything of its number
        return False
    return True
