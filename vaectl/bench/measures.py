"""Measurements of training, evaluation and sampling, and of the parts of a training step.

Measurements that are compared are interleaved: each round runs every task once, and a ratio is the
median of the rounds' ratios. So a change of the machine's load affects all tasks alike.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from vaectl import config
from vaectl.bench import floor
from vaectl.bench.floor import Floor
from vaectl.evaluation import likelihoods, means
from vaectl.optimizers._shared import OptimizerChoice
from vaectl.optimizers.base import Optimizer
from vaectl.training import compiled, population, step
from vaectl.training import fit as fitting
from vaectl.training.program import Member, Program, TrainState
from vaectl.vae.vae import VAE, Variables

IMPORTANCE_SAMPLES = 100


class Amount(NamedTuple):
    """The amount of work of each measurement."""

    samples: int = 10_000
    """Samples that are drawn at once."""
    members: int = 16
    """Members of a population on an accelerator."""
    members_on_cpu: int = 4
    sizes: Mapping[str, Sequence[int]] = {
        "batch_size": (1000, 5000),
        "hidden_size": (1000, 4096),
        "code_size": (200, 1000),
    }
    """The larger sizes that are measured on request."""
    operations: int = 2 * 10**11
    """Operations of the matrix products of one such size: about a second on two cores."""
    images: int = 10**5
    """The most images of one such size."""


DEFAULT = Amount()


class Work(NamedTuple):
    """The time of a piece of work, and of its matrix products alone."""

    name: str
    images: int
    seconds: float
    """Median over rounds."""
    floor: float
    """Median time of the matrix products."""
    ratio: float
    """Median ratio of the two."""

    @property
    def images_per_second(self) -> float:
        """The number of images, or of samples, per second."""
        return self.images / self.seconds

    def as_json(self) -> dict[str, object]:
        """Return the object that `--json` prints."""
        return {**self._asdict(), "images_per_second": self.images_per_second}


class Part(NamedTuple):
    """The time of a part of the training step, and its share of the step."""

    name: str
    milliseconds: float
    share: float


class Population(NamedTuple):
    """The cost of one member of a population, as a multiple of a run alone."""

    members: int
    together: float
    in_turn: float
    chosen: population.Strategy
    reason: str


Seconds = Float[np.ndarray, " rounds"]


_wait: Callable[[object], object] = jax.block_until_ready  # JAX does not annotate it


def interleaved(rounds: int, tasks: Mapping[str, Callable[[], object]]) -> dict[str, Seconds]:
    """Time every task once per round, after a warm-up round; a task may return its own time."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            own = _wait(task())
            taken = own if isinstance(own, float) else time.perf_counter() - start
            if number:
                times[name].append(taken)
    return {name: np.asarray(values) for name, values in times.items()}


def _against(name: str, images: int, seconds: Seconds, least: Seconds) -> Work:
    ratio = float(np.median(seconds / least))
    return Work(name, images, float(np.median(seconds)), float(np.median(least)), ratio)


class _Trainer:
    """A training that goes on with each call."""

    def __init__(
        self, program: Program, member: Member, run: Callable[[TrainState], TrainState]
    ) -> None:
        self._state: TrainState = compiled.init(program, member)
        self._run = run

    def __call__(self) -> TrainState:
        self._state = self._run(self._state)
        return self._state


def epochs(program: Program, member: Member, images: UInt8[Array, "images pixels"]) -> _Trainer:
    """Return a task that trains for one more epoch each time."""
    steps = program.steps_per_epoch
    return _Trainer(
        program,
        member,
        lambda state: compiled.train_steps(program, member, state, images, 0, steps)[0],
    )


class _Descent(Optimizer):
    """Steps against the gradient itself."""

    def rule(self) -> optax.GradientTransformation:
        """Return the transform that leaves a gradient as it is."""
        return optax.identity()


class _Bare(OptimizerChoice):
    """A choice of the gradient itself as the direction."""

    @property
    def chosen(self) -> Optimizer:
        """The optimizer without a rule."""
        return _Descent(learning_rate=1.0)


def work(
    program: Program,
    member: Member,
    train: UInt8[Array, "images pixels"],
    validation: UInt8[Array, "held_out pixels"],
    rounds: int,
    amount: Amount = DEFAULT,
) -> list[Work]:
    """Measure training, validation, the importance-weighted bound and sampling."""
    variables = compiled.init(program, member).params
    training = Floor(floor.step(program), program.steps_per_epoch)
    tasks = [
        _Task("training", program.images, epochs(program, member, train), training),
        _validation(program, member, variables, validation),
        _bound(program.vae, variables, validation),
        *([_bound(program.vae, variables, validation, bfloat16=True)] if program.bfloat16 else []),
        _sampling(program.vae, variables, amount.samples),
    ]
    pairs: dict[str, Callable[[], object]] = {}
    for task in tasks:
        pairs |= {task.name: task.run, f"{task.name} floor": task.floor.seconds}
    times = interleaved(rounds, pairs)
    return [
        _against(task.name, task.images, times[task.name], times[f"{task.name} floor"])
        for task in tasks
    ]


class _Task(NamedTuple):
    """A piece of work to be timed beside its floor."""

    name: str
    images: int
    run: Callable[[], object]
    floor: Floor


def _validation(
    program: Program,
    member: Member,
    variables: Variables,
    images: UInt8[Array, "held_out pixels"],
) -> _Task:
    estimator, count = program.estimator, len(images)
    arguments = variables, images, member.seed, 0, 0.0, 0, count
    products = floor.products(partial(means.term_sums, estimator), *arguments)
    batches = -(-count // min(estimator.batch_size, count))
    run = partial(means.compiled_sums, estimator, *arguments)
    return _Task("validation", count, run, Floor(products, batches))


def _bound(
    vae: VAE,
    variables: Variables,
    images: UInt8[Array, "held_out pixels"],
    *,
    bfloat16: bool = False,
) -> _Task:
    count, k = likelihoods.IMPORTANCE_BATCH, IMPORTANCE_SAMPLES
    pixels, y = vae.apart(jnp.resize(images, (count, vae.row)))
    few = vae.unit(pixels)
    arguments = variables, few, y, jax.random.key(0), jnp.asarray(k, jnp.int32)
    bound = partial(likelihoods.importance_weighted_bound, vae, bfloat16=bfloat16)
    decoded = floor.looped(bound, *arguments)  # images are encoded once, and decoded in each chunk
    run = partial(likelihoods.compiled_weighted_bound, vae, *arguments, bfloat16=bfloat16)
    rounded = ", bfloat16" if bfloat16 else ""
    return _Task(f"IW-{k}{rounded}", count, run, Floor(decoded, k // likelihoods.IMPORTANCE_CHUNK))


def _sampling(vae: VAE, variables: Variables, count: int) -> _Task:
    def mean(variables: Variables, z: Array) -> Array:
        return vae.network(variables).given(vae.first_class(len(z))).mean(z)

    codes = jax.random.normal(jax.random.key(0), (count, vae.code_size))
    run = partial(jax.jit(mean), variables, codes)
    return _Task("sampling", count, run, Floor(floor.products(mean, variables, codes), 1))


def parts(
    program: Program, member: Member, images: UInt8[Array, "images pixels"], rounds: int
) -> list[Part]:
    """Measure the parts of a training step.

    The optimizer and the order of images are measured by leaving them out, random numbers and
    matrix products alone; pointwise operations are the rest.
    """
    steps = program.steps_per_epoch
    bare = replace(program, optimizer=_Bare(name=""))
    times = interleaved(
        rounds,
        {
            "all": epochs(program, member, images),
            "in order": _Trainer(program, member, partial(_in_order, program, member, images)),
            "bare": _Trainer(bare, member, partial(_in_order, bare, member, images)),
            "random numbers": lambda: _noise(program, member),
            "matrix products": Floor(floor.step(program), steps).seconds,
        },
    )
    medians = {
        "matrix products": np.median(times["matrix products"]),
        "optimizer": np.median(times["in order"] - times["bare"]),
        "random numbers": np.median(times["random numbers"]),
        "order and gather": np.median(times["all"] - times["in order"]),
    }
    whole = float(np.median(times["all"]))
    medians["pointwise, and the rest"] = whole - sum(medians.values())
    return [
        Part(name, 1e3 * float(seconds) / steps, float(seconds) / whole)
        for name, seconds in medians.items()
    ]


@partial(jax.jit, static_argnames="program", donate_argnames="state")
def _in_order(
    program: Program, member: Member, images: UInt8[Array, "images pixels"], state: TrainState
) -> TrainState:
    """Train for an epoch whose batches are adjacent rows, without a gather."""
    size = program.batch_size

    def batch(place: Array) -> Array:
        start = jnp.minimum(place * size, program.images - size)
        rows: Array = jax.lax.dynamic_slice_in_dim(images, start, size)
        return rows

    end: TrainState
    end, _ = step.run_steps(program, member, state, 0, program.steps_per_epoch, batch)
    return end


@partial(jax.jit, static_argnames="program")
def _noise(program: Program, member: Member) -> Float[Array, ""]:
    """Draw the random numbers of an epoch."""

    def draw(number: int, total: Float[Array, ""]) -> Float[Array, ""]:
        total += step.noise(program, member, number)[0, 0, 0]
        if program.stochastic:
            grey = jnp.full((program.batch_size, program.row), 0.5)
            total += step.binarized(member, number, grey)[0, 0]
        return total

    total: Float[Array, ""] = jax.lax.fori_loop(0, program.steps_per_epoch, draw, jnp.zeros(()))
    return total


def streamed(
    program: Program,
    member: Member,
    train: UInt8[Array, "images pixels"],
    host: UInt8[np.ndarray, "images pixels"],
    rounds: int,
) -> float:
    """Return the speed of an epoch from host memory, relative to one with images on the device."""
    stream = fitting.Stream(program, member, host)
    steps, most = program.steps_per_epoch, stream.steps
    firsts = itertools.count(0, steps)

    def epoch(state: TrainState) -> TrainState:
        first = next(firsts)
        for start in range(first, first + steps, most):
            state, _ = stream.train(state, start, min(start + most, first + steps))
        return state

    times = interleaved(
        rounds,
        {"held": epochs(program, member, train), "streamed": _Trainer(program, member, epoch)},
    )
    return float(np.median(times["held"] / times["streamed"]))


def members(
    program: Program,
    settings: config.Config,
    device: jax.Device,
    images: UInt8[Array, "images pixels"],
    rounds: int,
    amount: Amount = DEFAULT,
) -> Population:
    """Measure what a member of a population costs."""
    count = amount.members_on_cpu if device.platform == "cpu" else amount.members
    seeds = [settings.model_copy(update={"seed": seed}) for seed in range(count)]
    members = [jax.device_put(Member.of(each), device) for each in seeds]
    everyone, states = population.start(program, members)
    steps = program.steps_per_epoch
    alone = [epochs(program, member, images) for member in members]

    def together() -> object:
        nonlocal states
        states, sums = population.train_steps(program, everyone, states, images, 0, steps)
        return sums

    times = interleaved(
        rounds,
        {
            "alone": alone[0],
            "together": together,
            "in turn": lambda: [run() for run in alone],
        },
    )
    chosen, reason = population.strategy(program, [device], images)
    return Population(
        members=count,
        together=float(np.median(times["together"] / times["alone"])) / count,
        in_turn=float(np.median(times["in turn"] / times["alone"])) / count,
        chosen=chosen,
        reason=reason,
    )


def sizes_of(program: Program, amount: Amount) -> list[tuple[str, int]]:
    """Return the larger sizes that a program can have.

    Not every model has hidden layers, and a batch is rounded up to whole micro-batches.
    """
    own = {"batch_size", "code_size", *type(program.vae.model).model_fields}
    parts = {"batch_size": program.microbatches}
    return [
        (key, -(-size // parts.get(key, 1)) * parts.get(key, 1))
        for key, sizes in amount.sizes.items()
        if key in own
        for size in sizes
    ]


def resized(program: Program, key: str, size: int) -> Program:
    """Return a program with another size."""
    if key == "batch_size":
        return replace(program, batch_size=size)
    if key == "code_size":
        return replace(program, vae=replace(program.vae, code_size=size))
    model = program.vae.model.model_copy(update={key: size})
    return replace(program, vae=replace(program.vae, model=model))


def scaled(
    settings: config.Config,
    program: Program,
    key: str,
    size: int,
    rounds: int,
    amount: Amount = DEFAULT,
) -> Work:
    """Measure training with one size changed, on random images."""
    program = resized(program, key, size)
    products = floor.step(program)
    steps = math.ceil(amount.operations / sum(product.operations for product in products))
    steps = min(steps, max(amount.images // program.batch_size, 1))
    program = replace(program, images=steps * program.batch_size)
    noise = np.random.default_rng(0).integers(0, 2, (program.images, program.row), np.uint8)
    member = Member.of(settings)
    times = interleaved(
        rounds,
        {
            "training": epochs(program, member, jnp.asarray(255 * noise)),
            "floor": Floor(products, steps).seconds,
        },
    )
    return _against(f"{key} {size:,}", program.images, times["training"], times["floor"])
