"""Training as pure functions: one member's step, and many steps as one loop."""

from collections.abc import Callable, Mapping
from functools import cache, partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32, UInt8

from vaectl.base import mesh, streams
from vaectl.base.products import in_fast_forms
from vaectl.objectives.base import check_terms, with_elbo
from vaectl.training.program import Member, Program, TrainState
from vaectl.vae.check import check_losses, check_network
from vaectl.vae.vae import Variables, unit

Sums = Mapping[str, Float[Array, "*steps"]]
"""The terms of the objective by name, summed over images, in nats."""

Batch = Callable[[Int[Array, ""]], UInt8[Array, "batch numbers"]]

# XLA would gather and convert the pixels again for each of their uses: 3 % of an epoch on a CPU
_once: Callable[[Array], Array] = jax.lax.optimization_barrier


def weights(program: Program, member: Member) -> Variables:
    """Return the arrays of the network before the first step."""
    return program.vae.init(streams.key(member.seed, "init"))


def init(program: Program, member: Member) -> TrainState:
    """Return the state before the first step."""
    return begin(program, member, weights(program, member))


def begin(program: Program, member: Member, variables: Variables) -> TrainState:
    """Return the state before the first step, with given arrays of the network."""
    learned, _ = program.vae.network(variables).split()
    optimizer = program.optimizer_of(member).direction().init(learned)
    return TrainState(variables, optimizer, jnp.zeros((), jnp.int32))


def noise(
    program: Program, member: Member, step: Int[Array, ""] | int
) -> Float[Array, "samples batch code"]:
    """Return the standard normal numbers with which a step samples z."""
    shape = program.samples, program.batch_size, program.vae.code_size
    drawn: Array = jax.random.normal(streams.key(member.seed, "noise", step), shape)
    return drawn


def binarized(
    member: Member, step: Int[Array, ""] | int, x: Float[Array, "batch *shape"]
) -> Float[Array, "batch *shape"]:
    """Draw each pixel of a step's batch anew; its intensity is the probability of 1."""
    drawn = jax.random.bernoulli(streams.key(member.seed, "binarize", step), x)
    pixels: Array = drawn.astype(jnp.float32)
    return pixels


def step(
    program: Program,
    member: Member,
    state: TrainState,
    rows: UInt8[Array, "batch numbers"],
    weights: Float[Array, " batch"],
) -> tuple[TrainState, Sums]:
    """Update the parameters once by the gradient of the objective's loss.

    Pixels of a batch's rows are from 0 to 255, and the class follows them if the model is told it.
    A weight is 1 for an image, 0 for the padding of a short batch.

    Returns:
        The state after the step, and the terms of the batch under the parameters before it.

    Kingma & Welling 2013, algorithm 1.
    """
    pixels, y = program.vae.apart(rows)
    x = _once(unit(pixels)).reshape(-1, *program.vae.image_shape)
    if program.stochastic:
        x = binarized(member, state.step, x)
    eps = noise(program, member, state.step)
    epoch = state.step / jnp.float32(program.steps_per_epoch)
    vae = program.vae
    learned, kept = vae.network(state.params).split()
    images = 1.0 if program.optimizer.chosen.gradient == "sum" else jnp.sum(weights)

    def part(
        x: Float[Array, "part h w c"],
        eps: Float[Array, "samples part code"],
        weights: Float[Array, " part"],
        y: Float[Array, "part classes"] | None,
        number: Int[Array, ""] | None = None,
    ) -> tuple[Variables, tuple[Sums, Variables]]:
        own = kept if number is None else _of_part(kept, number)

        def loss(learned: Variables) -> tuple[Float[Array, ""], tuple[Sums, Variables]]:
            network = vae.network(learned, own, training=True).given(y)
            losses, terms = program.objective.terms(network, x, eps, epoch)
            sums = {name: values @ weights for name, values in terms.items()}
            return losses @ weights / images, (sums, streams.as_numbers(network.split()[1]))

        gradient = jax.grad(loss, has_aux=True)
        found: tuple[Variables, tuple[Sums, Variables]]
        found = in_fast_forms(gradient, bfloat16=program.bfloat16)(learned)
        return found

    gradient, (sums, after) = _over_parts(program, part, x, eps, weights, y)
    variables = vae.network(learned, streams.as_keys(after, kept)).variables
    return _updated(program, member, state._replace(params=variables), gradient), sums


def _updated(
    program: Program, member: Member, state: TrainState, gradient: Variables
) -> TrainState:
    """Update the learned parameters of a state, and its optimizer, by a gradient."""
    learned, kept = program.vae.network(state.params).split()
    schedule = program.optimizer.schedule.scale(
        steps_per_epoch=program.steps_per_epoch, steps=program.steps
    )
    factor = schedule(state.step)
    direction, optimizer = (
        program.optimizer_of(member)
        .direction()
        .update(gradient, state.optimizer, learned, schedule=factor)
    )
    rate = member.learning_rate * factor
    learned = jax.tree.map(lambda p, d: p - rate * d, learned, direction)
    variables = program.vae.network(learned, kept).variables
    return TrainState(variables, optimizer, state.step + 1)


def evaluated(program: Program, member: Member, state: TrainState) -> Variables:
    """Return the arrays of the network to evaluate it with: those that train, or an average."""
    vae = program.vae
    learned, kept = vae.network(state.params).split()
    optimizer = program.optimizer_of(member)
    found = optimizer.evaluated(learned, state.optimizer, member.learning_rate)
    return vae.network(found, kept).variables


def _over_parts(
    program: Program,
    part: Callable[..., tuple[Variables, tuple[Sums, Variables]]],
    x: Float[Array, "batch h w c"],
    eps: Float[Array, "samples batch code"],
    weights: Float[Array, " batch"],
    y: Float[Array, "batch classes"] | None,
) -> tuple[Variables, tuple[Sums, Variables]]:
    """Sum gradients and terms over the micro-batches of a batch; other state is their mean."""
    count = program.microbatches
    if count == 1:
        return part(x, eps, weights, y)

    def mean(leaf: Array) -> Array:
        return leaf / count if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf

    def of_part(
        x: Float[Array, "part h w c"],
        eps: Float[Array, "part samples code"],
        weights: Float[Array, " part"],
        y: Float[Array, "part classes"] | None,
        number: Int[Array, ""],
    ) -> tuple[Variables, tuple[Sums, Variables]]:
        gradient, (sums, kept) = part(x, jnp.swapaxes(eps, 0, 1), weights, y, number)
        return gradient, (sums, jax.tree.map(mean, kept))

    batch = x, jnp.swapaxes(eps, 0, 1), weights, y
    parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)
    total: tuple[Variables, tuple[Sums, Variables]]
    total = mesh.summed(program.mesh, of_part, *parts, jnp.arange(count))
    return total


def _of_part(kept: Variables, number: Int[Array, ""]) -> Variables:
    """Give each part of a batch its own random keys, so that dropout differs between parts.

    The first part has the keys themselves. They are what the sum over the parts keeps.
    """

    def own(leaf: Array) -> Array:
        if not streams.is_key(leaf):
            return leaf
        folded = jax.vmap(jax.random.fold_in, (0, None))(leaf.reshape(-1), number)
        return jnp.where(number == 0, leaf, folded.reshape(leaf.shape))

    found: Variables = jax.tree.map(own, kept)
    return found


def order(
    program: Program, member: Member, epoch: Int[Array, ""] | int
) -> Int32[Array, "steps batch"]:
    """Return the images of each step of an epoch: all in a new order, without replacement.

    A last short batch is filled up with the first images of the order, at weight zero, so that no
    image is lost and every step has one shape. Batch normalization counts them.
    """
    steps, count = program.steps_per_epoch, program.images
    key = streams.key(member.seed, "shuffle", epoch)
    shuffled = jax.random.permutation(key, count).astype(jnp.int32)
    rows = jnp.concatenate([shuffled, shuffled[: steps * program.batch_size - count]])
    return rows.reshape(steps, program.batch_size)


def run_steps(
    program: Program,
    member: Member,
    state: TrainState,
    first: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    batch: Batch,
) -> tuple[TrainState, Sums]:
    """Run the steps `first` to `stop - 1` of a run, all of one epoch, in one loop on the device.

    Both are traced: one program serves a whole epoch and every part of it, and so the bits do not
    depend on where an epoch was cut. They are not taken from the state: under `vmap` it belongs to
    many members.

    `first` and `stop` are counted over the run, the step whose images `batch` gives over the epoch.

    Returns:
        The state after these steps, and the terms of each step of the epoch, summed over its
        images in nats; zero for the steps that did not run here.
    """
    steps, size = program.steps_per_epoch, program.batch_size
    if program.optimizer.chosen.resets_each_epoch:
        learned, _ = program.vae.network(state.params).split()
        fresh = program.optimizer_of(member).direction().init(learned)
        state = state._replace(
            optimizer=jax.tree.map(partial(jnp.where, first % steps == 0), fresh, state.optimizer)
        )

    def body(number: Int[Array, ""], carry: tuple[TrainState, Sums]) -> tuple[TrainState, Sums]:
        state, sums = carry
        place = number % steps
        weights = (place * size + jnp.arange(size) < program.images).astype(jnp.float32)
        state, of_step = step(program, member, state, batch(place), weights)
        return state, {name: sums[name].at[place].set(of_step[name]) for name in sums}

    nothing = {name: jnp.zeros(steps) for name in terms(program)}
    end: tuple[TrainState, Sums] = jax.lax.fori_loop(first, stop, body, (state, nothing))
    return end


@cache
def terms(program: Program) -> tuple[str, ...]:
    """Name the terms that the objective reports, in alphabetical order.

    Raises:
        ConfigError: one of them has no usable name, the best one is missing, or a part of the
            experiment returns arrays of wrong shapes.
    """

    def terms() -> Sums:
        vae = program.vae
        network = vae.network(vae.init(jax.random.key(0)), training=True)
        network, x = network.given(vae.first_class(2)), jnp.zeros((2, *vae.image_shape))
        check_network(network, x)
        noise = jnp.zeros((program.samples, 2, vae.code_size))
        found = program.objective.terms(network, x, noise, jnp.float32(0))
        check_losses(program.objective, found, images=2)
        return found[1]

    names = [*jax.eval_shape(terms)]
    check_terms(program.objective, names)
    return tuple(names)


def columns(program: Program) -> list[str]:
    """Name the numbers of an epoch, the ELBO among them."""
    return [*with_elbo(dict.fromkeys(terms(program), 0.0))]


def train_steps(
    program: Program,
    member: Member,
    state: TrainState,
    images: UInt8[Array, "images numbers"],
    first: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
) -> tuple[TrainState, Sums]:
    """Do `run_steps` on images that are on the device: a batch is gathered inside the loop."""
    rows = order(program, member, first // program.steps_per_epoch)
    return run_steps(program, member, state, first, stop, lambda place: images[rows[place]])


def train_streamed_steps(
    program: Program,
    member: Member,
    state: TrainState,
    batches: UInt8[Array, "chunk batch numbers"],
    first: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
) -> tuple[TrainState, Sums]:
    """Do `run_steps` on batches that were brought to the device, beginning with that of `first`."""
    start = first % program.steps_per_epoch
    return run_steps(program, member, state, first, stop, lambda place: batches[place - start])
