"""Training: one member's step, an epoch as one compiled scan, and `fit`, which yields epochs.

A `Program` is what is compiled; a `Member` is what may differ without compiling again. Nothing here
writes or prints.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Int32, UInt8, UInt32

from vaectl import config, evaluation, model, optimizers, streams
from vaectl.errors import DivergedError
from vaectl.evaluation import Means
from vaectl.model import VAE, Params
from vaectl.objective import elbo


class TrainState(NamedTuple):
    """All that a step changes, and all that a checkpoint holds."""

    params: Params
    optimizer: optax.OptState
    step: Int32[Array, ""]


class Member(NamedTuple):
    """What may differ between runs of one compiled program."""

    seed: UInt32[Array, ""]
    learning_rate: Float[Array, ""]


@dataclass(frozen=True)
class Program:
    """What training compiles to, as a value: programs that are equal compile once."""

    model: config.Model
    optimizer: config.Optimizer
    """With a learning rate of 1: that of a run is its member's."""
    samples: int
    stochastic: bool
    batch_size: int
    epochs: int
    images: int
    pixels: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches that cover all images once, the last one perhaps short."""
        return -(-self.images // self.batch_size)

    @property
    def graph(self) -> nnx.GraphDef[VAE]:
        """The structure of the model."""
        return model.graph(self.model, self.pixels)


class Epoch(NamedTuple):
    """One epoch's results. The state is donated when the next epoch is asked for."""

    epoch: int
    step: int
    train: Means
    validation: Means
    train_seconds: float
    validation_seconds: float
    state: TrainState


def program(settings: config.Config, *, images: int, pixels: int) -> Program:
    """Build the program of a configuration for so many training images of so many pixels."""
    optimizer = settings.optimizer
    unit_rate = optimizer.chosen.model_copy(update={"learning_rate": 1.0})
    return Program(
        model=settings.model,
        optimizer=optimizer.model_copy(update={optimizer.name: unit_rate}),
        samples=settings.objective.samples,
        stochastic=settings.data.binarization == "stochastic",
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        images=images,
        pixels=pixels,
    )


def member(settings: config.Config) -> Member:
    """The one member of an ordinary run."""
    return Member(
        seed=jnp.asarray(settings.seed, jnp.uint32),
        learning_rate=jnp.asarray(settings.optimizer.chosen.learning_rate, jnp.float32),
    )


@partial(jax.jit, static_argnames="program")
def init(program: Program, member: Member) -> TrainState:
    """The state before the first step. Compiled: run eagerly it is most of a cold start."""
    params = model.init(program.model, program.pixels, streams.key(member.seed, "init"))
    optimizer = optimizers.direction(program.optimizer).init(params)
    return TrainState(params, optimizer, jnp.zeros((), jnp.int32))


def step(
    program: Program,
    member: Member,
    state: TrainState,
    pixels: UInt8[Array, "batch pixels"],
    weights: Float[Array, " batch"],
) -> tuple[TrainState, Float[Array, "2"]]:
    """One update by the gradient of the negative ELBO.

    Args:
        program: what is compiled.
        member: seed and learning rate.
        state: before the step.
        pixels: a batch, 0 to 255.
        weights: 1 for an image, 0 for the padding of a short batch.

    Returns:
        The state after the step, and (KL, NLL) of the batch under the parameters before it,
        summed over images, in nats.

    Kingma & Welling 2013, algorithm 1.
    """
    x = evaluation.unit(pixels)
    if program.stochastic:
        key = streams.key(member.seed, "binarize", state.step)
        x = jax.random.bernoulli(key, x).astype(jnp.float32)
    key = streams.key(member.seed, "noise", state.step)
    noise = jax.random.normal(key, (program.samples, len(pixels), program.model.code_size))

    def loss(params: Params) -> tuple[Float[Array, ""], Float[Array, "2"]]:
        bound = elbo(nnx.merge(program.graph, params), x, noise)
        sums = jnp.stack([bound.kl @ weights, bound.nll @ weights])
        summed = program.optimizer.chosen.gradient == "sum"
        return jnp.sum(sums) / (1.0 if summed else jnp.sum(weights)), sums

    gradient, sums = jax.grad(loss, has_aux=True)(state.params)
    direction, optimizer = optimizers.direction(program.optimizer).update(
        gradient, state.optimizer, state.params
    )
    schedule = optimizers.schedule(
        program.optimizer.schedule,
        steps_per_epoch=program.steps_per_epoch,
        steps=program.steps_per_epoch * program.epochs,
    )
    rate = member.learning_rate * schedule(state.step)
    params = jax.tree.map(lambda p, d: p - rate * d, state.params, direction)
    return TrainState(params, optimizer, state.step + 1), sums


@partial(jax.jit, static_argnames="program", donate_argnames="state")
def train_epoch(
    program: Program, member: Member, state: TrainState, images: UInt8[Array, "images pixels"]
) -> tuple[TrainState, Float[Array, "steps 2"]]:
    """One pass over all images in a new order, without replacement, as one scan.

    A last short batch is padded with images of weight zero, so that no image is lost and every step
    has one shape.

    Returns:
        The state after the epoch, and for each step (KL, NLL) summed over its images.
    """
    steps, count = program.steps_per_epoch, program.images
    key = streams.key(member.seed, "shuffle", state.step // steps)
    order = jnp.zeros(steps * program.batch_size, jnp.int32)
    order = order.at[:count].set(jax.random.permutation(key, count))
    weights = (jnp.arange(order.size) < count).astype(jnp.float32)
    optimizer = program.optimizer
    if optimizer.name == "sgd" and optimizer.sgd.reset_each_epoch:
        state = state._replace(optimizer=optimizers.direction(optimizer).init(state.params))

    def body(
        state: TrainState, batch: tuple[Int[Array, " batch"], Float[Array, " batch"]]
    ) -> tuple[TrainState, Float[Array, "2"]]:
        rows, weights = batch
        return step(program, member, state, images[rows], weights)

    shape = (steps, program.batch_size)
    return jax.lax.scan(body, state, (order.reshape(shape), weights.reshape(shape)))


def compile_ahead(
    program: Program,
    member: Member,
    state: TrainState,
    train: UInt8[Array, "images pixels"],
    validation: UInt8[Array, "held_out pixels"],
) -> None:
    """Compile all that `fit` runs, so that no epoch's time includes it. Done again, it is free."""
    train_epoch.lower(program, member, state, train).compile()
    evaluation.bound_sums.lower(*_validation(program, member, state, validation)).compile()


def fit(
    program: Program,
    member: Member,
    state: TrainState,
    train: UInt8[Array, "images pixels"],
    validation: UInt8[Array, "held_out pixels"],
) -> Iterator[Epoch]:
    """Train from a state to the program's last epoch, and yield each epoch as it ends.

    The training numbers are means over the epoch, each batch under the parameters that it met (as
    in the paper's Fig. 3); the validation numbers are exact means under the parameters at its end.

    Raises:
        DivergedError: a NaN or an infinity in the bound; names the epoch and the step.
    """
    compile_ahead(program, member, state, train, validation)
    steps = program.steps_per_epoch
    for epoch in range(int(state.step) // steps + 1, program.epochs + 1):
        start = time.perf_counter()
        state, device_sums = train_epoch(program, member, state, train)
        sums = np.asarray(device_sums, np.float64)
        trained = time.perf_counter()
        bad = np.flatnonzero(~np.isfinite(sums).all(axis=1))
        if bad.size:
            raise _diverged(f"epoch {epoch}, step {(epoch - 1) * steps + int(bad[0]) + 1}")
        validation_sums = evaluation.bound_sums(*_validation(program, member, state, validation))
        means = evaluation.means(validation_sums, len(validation))
        if not np.isfinite(means.elbo):
            raise _diverged(f"epoch {epoch}, step {epoch * steps}, on the validation split")
        yield Epoch(
            epoch=epoch,
            step=epoch * steps,
            train=evaluation.means(sums, len(train)),
            validation=means,
            train_seconds=trained - start,
            validation_seconds=time.perf_counter() - trained,
            state=state,
        )


def _validation(
    program: Program, member: Member, state: TrainState, images: UInt8[Array, "images pixels"]
) -> tuple[Any, ...]:
    """The arguments of `evaluation.bound_sums` after an epoch."""
    return program.graph, program.samples, state.params, images, member.seed, state.step


def _diverged(where: str) -> DivergedError:
    return DivergedError(
        f"training diverged: the ELBO is not finite at {where}",
        hint="try a smaller --learning-rate, or --set optimizer.clip_norm=100",
    )
