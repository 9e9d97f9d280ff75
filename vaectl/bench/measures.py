"""Pieces of work beside their floors, and what parts of them cost.

All that is compared is measured in the same minute, in turns: each round runs everything once, and
a ratio is the median of the ratios of the rounds.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping
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
from vaectl.optimizers.base import Optimizer
from vaectl.optimizers.shared import OptimizerChoice
from vaectl.training import compiled, population, step
from vaectl.training import fit as fitting
from vaectl.training.program import Member, Program, TrainState

IMPORTANCE_SAMPLES = 100
SAMPLES = 10_000
MEMBERS, MEMBERS_ON_CPU = 16, 4
SCALING_OPERATIONS, SCALING_IMAGES = 2 * 10**11, 10**5
"""Of the products of one measure in the table of sizes: a second or so on two cores."""


class Work(NamedTuple):
    """Some work, and its matrix products alone."""

    name: str
    images: int
    seconds: float
    """Median."""
    floor: float
    """Median."""
    ratio: float
    """Median of the rounds' ratios to the floor."""

    @property
    def images_per_second(self) -> float:
        """Or samples."""
        return self.images / self.seconds

    def as_json(self) -> dict[str, object]:
        """For a program."""
        return {**self._asdict(), "images_per_second": self.images_per_second}


class Part(NamedTuple):
    """A part of the training step."""

    name: str
    milliseconds: float
    share: float


class Population(NamedTuple):
    """What members cost, each, as a multiple of a run alone."""

    members: int
    together: float
    in_turn: float
    chosen: population.Strategy
    reason: str


Seconds = Float[np.ndarray, " rounds"]


_wait: Callable[[object], object] = jax.block_until_ready  # JAX does not annotate it


def _interleaved(rounds: int, tasks: Mapping[str, Callable[[], object]]) -> dict[str, Seconds]:
    """Run every task once a round, after once to warm up; a task may time itself."""
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
    """A program that trains on and on, some steps a call."""

    def __init__(
        self, program: Program, member: Member, run: Callable[[TrainState], TrainState]
    ) -> None:
        self._state: TrainState = compiled.init(program, member)
        self._run = run

    def __call__(self) -> TrainState:
        self._state = self._run(self._state)
        return self._state


def _epochs(program: Program, member: Member, images: UInt8[Array, "images pixels"]) -> _Trainer:
    steps = program.steps_per_epoch
    return _Trainer(
        program,
        member,
        lambda state: compiled.train_steps(program, member, state, images, 0, steps)[0],
    )


class _Descent(Optimizer):
    """Steps against the gradient itself."""

    def rule(self) -> optax.GradientTransformation:
        """Do nothing to a gradient."""
        return optax.identity()


class _Bare(OptimizerChoice):
    """Chooses the gradient itself."""

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
) -> list[Work]:
    """Training, validation, the importance-weighted bound and sampling."""
    vae, estimator = program.vae, program.estimator
    variables = compiled.init(program, member).params
    held_out, size = len(validation), min(means.BATCH_SIZE, len(validation))
    batch, k = likelihoods.IMPORTANCE_BATCH, IMPORTANCE_SAMPLES
    few = jnp.resize(validation, (batch, program.pixels))
    key = jax.random.key(0)
    mean = jax.jit(lambda variables, z: vae.network(variables).mean(z))
    codes = jax.random.normal(key, (SAMPLES, vae.code_size))
    of_validation = partial(means.term_sums, estimator)
    of_bound = partial(likelihoods.importance_weighted_bound, vae)
    encoded = floor.products(lambda v, x: vae.network(v).encode(vae.unit(x)), variables, few)
    decoded = floor.products(of_bound, variables, few, key, jnp.int32(k))[len(encoded) :]
    tasks: dict[str, tuple[int, Callable[[], object], Floor]] = {
        "training": (
            program.images,
            _epochs(program, member, train),
            Floor(floor.step(program), program.steps_per_epoch),
        ),
        "validation": (
            held_out,
            lambda: means.compiled_sums(
                estimator, variables, validation, member.seed, 0, 0.0, 0, held_out
            ),
            Floor(
                floor.products(
                    of_validation, variables, validation, member.seed, 0, 0.0, 0, held_out
                ),
                -(-held_out // size),
            ),
        ),
        f"IW-{k}": (
            batch,
            lambda: likelihoods.compiled_weighted_bound(
                vae, variables, few, key, jnp.asarray(k, jnp.int32)
            ),
            Floor(decoded, k // likelihoods.IMPORTANCE_CHUNK),
        ),
        "sampling": (
            SAMPLES,
            lambda: mean(variables, codes),
            Floor(floor.products(lambda v, z: vae.network(v).mean(z), variables, codes), 1),
        ),
    }
    pairs: dict[str, Callable[[], object]] = {}
    for name, (_, task, least) in tasks.items():
        pairs |= {name: task, f"{name} floor": least.seconds}
    times = _interleaved(rounds, pairs)
    return [
        _against(name, images, times[name], times[f"{name} floor"])
        for name, (images, _, _) in tasks.items()
    ]


def parts(
    program: Program, member: Member, images: UInt8[Array, "images pixels"], rounds: int
) -> list[Part]:
    """What each part of the step adds, by leaving it out, but for random numbers, timed alone."""
    steps = program.steps_per_epoch
    bare = replace(program, optimizer=_Bare(name=""))
    times = _interleaved(
        rounds,
        {
            "all": _epochs(program, member, images),
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
    """An epoch whose batches lie side by side."""
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
    """The random numbers of an epoch's steps."""

    def draw(number: int, total: Float[Array, ""]) -> Float[Array, ""]:
        total += step.noise(program, member, number)[0, 0, 0]
        if program.stochastic:
            grey = jnp.full((program.batch_size, program.pixels), 0.5)
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
    """Speed of an epoch from host memory, as a share of that of an epoch on the device."""
    stream = fitting.Stream(program, member, host)
    steps, most = program.steps_per_epoch, stream.steps
    firsts = itertools.count(0, steps)

    def epoch(state: TrainState) -> TrainState:
        first = next(firsts)
        for start in range(first, first + steps, most):
            state, _ = stream.train(state, start, min(start + most, first + steps))
        return state

    times = _interleaved(
        rounds,
        {"held": _epochs(program, member, train), "streamed": _Trainer(program, member, epoch)},
    )
    return float(np.median(times["held"] / times["streamed"]))


def members(
    program: Program,
    settings: config.Config,
    device: jax.Device,
    images: UInt8[Array, "images pixels"],
    rounds: int,
) -> Population:
    """What a member costs among others."""
    count = MEMBERS_ON_CPU if device.platform == "cpu" else MEMBERS
    seeds = [settings.model_copy(update={"seed": seed}) for seed in range(count)]
    members = [jax.device_put(Member.of(each), device) for each in seeds]
    everyone, states = population.start(program, members)
    steps = program.steps_per_epoch
    alone = [_epochs(program, member, images) for member in members]

    def together() -> object:
        nonlocal states
        states, sums = population.train_steps(program, everyone, states, images, 0, steps)
        return sums

    times = _interleaved(
        rounds,
        {
            "alone": alone[0],
            "together": together,
            "in turn": lambda: [run() for run in alone],
        },
    )
    chosen, reason = population.strategy(device, images)
    return Population(
        members=count,
        together=float(np.median(times["together"] / times["alone"])) / count,
        in_turn=float(np.median(times["in turn"] / times["alone"])) / count,
        chosen=chosen,
        reason=reason,
    )


def scaled(settings: config.Config, program: Program, key: str, size: int, rounds: int) -> Work:
    """Training with one size changed, on noise, for a second or so."""
    if key == "batch_size":
        program = replace(program, batch_size=size)
    else:
        model = program.vae.model.model_copy(update={key: size})
        program = replace(program, vae=replace(program.vae, model=model))
    products = floor.step(program)
    steps = math.ceil(SCALING_OPERATIONS / sum(product.operations for product in products))
    steps = min(steps, max(SCALING_IMAGES // program.batch_size, 1))
    program = replace(program, images=steps * program.batch_size)
    noise = np.random.default_rng(0).integers(0, 2, (program.images, program.pixels), np.uint8)
    member = Member.of(settings)
    times = _interleaved(
        rounds,
        {
            "training": _epochs(program, member, jnp.asarray(255 * noise)),
            "floor": Floor(products, steps).seconds,
        },
    )
    return _against(f"{key} {size:,}", program.images, times["training"], times["floor"])
