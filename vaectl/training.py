"""Training as pure functions: one member's step, and many steps as one loop on the device.

A `Program` is what is compiled; a `Member` is what may differ without compiling again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Int32, UInt8, UInt32

from vaectl import config, evaluation, model, optimizers, streams
from vaectl.errors import ConfigError
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


def program(settings: config.Config, *, images: int, pixels: int) -> Program:
    """Build the program of a configuration for so many training images of so many pixels."""
    optimizer = settings.optimizer
    unit_rate = optimizer.chosen.model_copy(update={"learning_rate": 1.0})
    return Program(
        model=settings.model,
        optimizer=optimizer.model_copy(update={optimizer.name: unit_rate}),
        samples=settings.objective.samples,
        stochastic=settings.data.binarization == "stochastic",
        # no more than there are: a larger batch would be padding
        batch_size=min(settings.batch_size, images),
        epochs=settings.epochs,
        images=images,
        pixels=pixels,
    )


def check_steps(program: Program) -> None:
    """Refuse more steps than the counter of a state can count.

    Raises:
        ConfigError: there are more, or the warm-up alone has more.
    """
    most = 2**31 - 1
    warmup = program.optimizer.schedule.warmup_epochs
    for key, epochs in (("epochs", program.epochs), ("optimizer.schedule.warmup_epochs", warmup)):
        if epochs * program.steps_per_epoch > most:
            raise ConfigError(
                f"{key} {epochs:g}: more than {most:,} steps, "
                f"at {program.steps_per_epoch:,} an epoch",
                hint=f"lower {key}, or raise batch_size",
            )


def member(settings: config.Config) -> Member:
    """The one member of an ordinary run."""
    return Member(
        seed=jnp.asarray(settings.seed, jnp.uint32),
        learning_rate=jnp.asarray(settings.optimizer.chosen.learning_rate, jnp.float32),
    )


# XLA would gather and convert the pixels again for each of their uses: 3 % of an epoch on a CPU
_once: Callable[[Array], Array] = jax.lax.optimization_barrier


@partial(jax.jit, static_argnames="program")
def init(program: Program, member: Member) -> TrainState:
    """The state before the first step. Compiled: run eagerly it is most of a cold start."""
    params = model.init(program.model, program.pixels, streams.key(member.seed, "init"))
    optimizer = optimizers.direction(program.optimizer).init(params)
    return TrainState(params, optimizer, jnp.zeros((), jnp.int32))


def shapes(program: Program, member: Member) -> TrainState:
    """Shapes, types and places of the arrays of a state, without computing one."""
    place = member.seed.sharding if member.seed.committed else None
    like: TrainState = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),  # type: ignore[no-untyped-call]
        jax.eval_shape(lambda: init(program, member)),
    )
    return like


def noise(
    program: Program, member: Member, step: Int[Array, ""] | int
) -> Float[Array, "samples batch code"]:
    """The standard normal numbers that a step samples z by."""
    shape = program.samples, program.batch_size, program.model.code_size
    drawn: Array = jax.random.normal(streams.key(member.seed, "noise", step), shape)
    return drawn


def binarized(
    member: Member, step: Int[Array, ""] | int, x: Float[Array, "batch pixels"]
) -> Float[Array, "batch pixels"]:
    """Draw each pixel of a step's batch, anew, by its intensity as the probability of 1."""
    drawn = jax.random.bernoulli(streams.key(member.seed, "binarize", step), x)
    pixels: Array = drawn.astype(jnp.float32)
    return pixels


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
    x = _once(evaluation.unit(pixels))
    if program.stochastic:
        x = binarized(member, state.step, x)
    eps = noise(program, member, state.step)

    def loss(params: Params) -> tuple[Float[Array, ""], Float[Array, "2"]]:
        bound = elbo(nnx.merge(program.graph, params), x, eps)
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


@partial(jax.jit, static_argnames="program")
def order(
    program: Program, member: Member, epoch: Int[Array, ""] | int
) -> Int32[Array, "steps batch"]:
    """The images of each step of an epoch: all of them in a new order, without replacement.

    A last short batch is filled up with the first image, at weight zero, so that no image is lost
    and every step has one shape.
    """
    steps, count = program.steps_per_epoch, program.images
    key = streams.key(member.seed, "shuffle", epoch)
    rows = jnp.zeros(steps * program.batch_size, jnp.int32)
    rows = rows.at[:count].set(jax.random.permutation(key, count))
    return rows.reshape(steps, program.batch_size)


Batch = Callable[[Int[Array, ""]], UInt8[Array, "batch pixels"]]


def run_steps(
    program: Program,
    member: Member,
    state: TrainState,
    first: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    batch: Batch,
) -> tuple[TrainState, Float[Array, "steps 2"]]:
    """Run the steps `first` to `stop - 1` of a run, all of one epoch, in one loop on the device.

    Both are traced: one program serves a whole epoch and every part of it, and so the bits do not
    depend on where an epoch was cut. They are not taken from the state, which is of many members
    where this is vmapped.

    Args:
        program: what is compiled.
        member: seed and learning rate.
        state: before the step `first`.
        first: counted over the run.
        stop: likewise.
        batch: gives the images of a step, counted over the epoch.

    Returns:
        The state after these steps, and (KL, NLL) of each step of the epoch, summed over its
        images in nats; zero for the steps that did not run here.
    """
    steps, size = program.steps_per_epoch, program.batch_size
    optimizer = program.optimizer
    if optimizer.name == "sgd" and optimizer.sgd.reset_each_epoch:
        fresh = optimizers.direction(optimizer).init(state.params)
        state = state._replace(
            optimizer=jax.tree.map(partial(jnp.where, first % steps == 0), fresh, state.optimizer)
        )

    def body(
        number: Int[Array, ""], carry: tuple[TrainState, Float[Array, "steps 2"]]
    ) -> tuple[TrainState, Float[Array, "steps 2"]]:
        state, sums = carry
        place = number % steps
        weights = (place * size + jnp.arange(size) < program.images).astype(jnp.float32)
        state, of_step = step(program, member, state, batch(place), weights)
        return state, sums.at[place].set(of_step)

    nothing: Float[Array, "steps 2"] = jnp.zeros((steps, 2))
    end: tuple[TrainState, Float[Array, "steps 2"]] = jax.lax.fori_loop(
        first, stop, body, (state, nothing)
    )
    return end


@partial(jax.jit, static_argnames="program", donate_argnames="state")
def train_steps(
    program: Program,
    member: Member,
    state: TrainState,
    images: UInt8[Array, "images pixels"],
    first: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
) -> tuple[TrainState, Float[Array, "steps 2"]]:
    """`run_steps` over images that live on the device: a batch is gathered inside the loop."""
    rows = order(program, member, first // program.steps_per_epoch)
    return run_steps(program, member, state, first, stop, lambda place: images[rows[place]])


@partial(jax.jit, static_argnames="program", donate_argnames="state")
def train_streamed_steps(
    program: Program,
    member: Member,
    state: TrainState,
    batches: UInt8[Array, "chunk batch pixels"],
    first: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
) -> tuple[TrainState, Float[Array, "steps 2"]]:
    """`run_steps` over batches that were brought to the device for it, that of `first` first."""
    start = first % program.steps_per_epoch
    return run_steps(program, member, state, first, stop, lambda place: batches[place - start])
