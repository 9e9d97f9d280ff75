"""Populations: members of one program, trained together or one after another.

A step of a small model leaves a GPU mostly idle, so members on a GPU train together, by `vmap`. One
member keeps a CPU busy: together each member would cost 1.1 to 1.3 times what it costs alone. So
members on a CPU take turns with the same compiled program, and each ends with the same bits as when
trained alone. Over several devices the members are spread equally, and nothing travels between
these.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, UInt8

from vaectl.base import devices, mesh, spent, surroundings
from vaectl.base.errors import DivergedError
from vaectl.evaluation import means as evaluation
from vaectl.evaluation.means import Images, Means, Shapes
from vaectl.training import compiled, footprint, step
from vaectl.training import fit as fitting
from vaectl.training.fit import Chunk, Epoch, Saved
from vaectl.training.program import Member, Program, TrainState
from vaectl.training.step import Sums

Strategy = Literal["together", "in turn"]


class News(NamedTuple):
    """Something that happened to one of the members."""

    member: int
    """The index of the member."""
    what: Chunk | Epoch | DivergedError
    ends_round: bool
    """True if this is the last news of an epoch from members that train together."""


def strategy(
    program: Program, devices: Sequence[jax.Device], train: Shapes
) -> tuple[Strategy, str]:
    """Choose how members train, and say why."""
    if program.mesh is not None:
        return "in turn", "all devices share each batch"
    if isinstance(train, evaluation.ON_HOST):
        return "in turn", "each member's batches come from host memory or disk"
    if len(devices) > 1:
        return "together", "each device trains members of its own"
    if devices[0].platform == "cpu":
        return "in turn", "one member keeps a CPU busy"
    return "together", "one member leaves an accelerator mostly idle"


def fit(
    program: Program,
    members: Sequence[Member],
    splits: tuple[Images, Images],
    how: Strategy,
    saved: Mapping[int, Saved] = MappingProxyType({}),
    until: int = 0,
) -> Iterator[News]:
    """Train each member to the last epoch, or for a part of them; yield what happens, and to which.

    The splits are those of `fit.fit`: training and validation.

    A member that diverges ends with the error; the others go on. Members that train together share
    the time of an epoch equally, and equal runs alone to rounding; more of them than the device has
    memory for train in groups.

    Members that go on where they were saved, by their index, always take turns. After the epoch
    `until`, if it is not 0, all of them pause.
    """
    until = until or program.epochs
    train, validation = splits
    turns = [*saved] if how == "together" else range(len(members))
    for index in turns:
        on_host = isinstance(train, evaluation.ON_HOST)
        own = splits if on_host or program.mesh else mesh.on_first(splits)
        yield from _alone(program, index, members[index], own, until, saved.get(index))
    new = [index for index in range(len(members)) if index not in turns]
    if not new or isinstance(train, evaluation.ON_HOST):
        return
    places = sorted(train.devices(), key=lambda device: device.id)
    size = at_once(program, len(new), len(validation), places)
    for first in range(0, len(new), size):
        group = new[first : first + size]
        of_group = [members[index] for index in group]
        for event in _together(program, of_group, (train, validation), places, until):
            yield event._replace(member=group[event.member])


def at_once(program: Program, members: int, held_out: int, places: Sequence[jax.Device]) -> int:
    """Return how many of the members train at once: those that fit on the devices.

    Each device also has the images, and one member at least. Several devices of a CPU have one
    each, because one keeps it busy. Each member keeps a file open, the lock of its run.
    """
    if len(places) > 1 and places[0].platform == "cpu":
        return min(len(places), members)
    images = (program.images + held_out) * program.row
    # each also has the state that its last epoch handed out
    each = 2 * (footprint.of_training(program, held_out) - images)
    of_device = max((devices.memory_of(places[0]) - images) // each, 1)
    return min(of_device * len(places), members, max(surroundings.spare_files(), 1))


def _alone(
    program: Program,
    index: int,
    member: Member,
    splits: tuple[Images, Images],
    until: int,
    saved: Saved | None,
) -> Iterator[News]:
    saved = saved or Saved(compiled.init(program, member))
    try:
        for event in fitting.fit(program, member, saved, *splits):
            yield News(index, event, ends_round=True)
            if isinstance(event, Epoch) and event.epoch == until:
                return
    except DivergedError as error:
        yield News(index, error, ends_round=True)


def _together(
    program: Program,
    members: Sequence[Member],
    splits: tuple[Array, Images],
    places: Sequence[jax.Device],
    until: int,
) -> Iterator[News]:
    over, (train, validation) = mesh.of(places), splits
    everyone, states = start(program, members, over)
    # first of all, so that it does not count as time of training
    with spent.on("compilation"):
        train_steps.lower(program, everyone, states, train, 0, 1, over).compile()
        _term_sums.lower(program, everyone, states, validation, 0, 0.0, over).compile()
    going = list(range(len(members)))
    steps = program.steps_per_epoch
    for epoch in range(1, until + 1):
        end = epoch * steps
        began = time.perf_counter()
        with spent.on("training"):
            states, found = train_steps(program, everyone, states, train, end - steps, end, over)
            sums = _of_members(found)
        trained = time.perf_counter()
        with spent.on("evaluation"):
            held_out = _of_members(
                _term_sums(program, everyone, states, validation, end, float(epoch), over)
            )
        evaluated = time.perf_counter()
        for index in (round_ := tuple(going)):
            ends_round = index == round_[-1]
            try:
                means = _means(program, epoch, sums[index], held_out[index], len(validation))
            except DivergedError as error:
                going.remove(index)
                yield News(index, error, ends_round)
                continue
            of_member = Epoch(
                epoch=epoch,
                step=end,
                train=means[0],
                validation=means[1],
                train_seconds=(trained - began) / len(members),
                validation_seconds=(evaluated - trained) / len(members),
                state=_one_of(states, index),
            )
            yield News(index, of_member, ends_round)


def _means(
    program: Program,
    epoch: int,
    sums: Mapping[str, np.ndarray],
    held_out: Mapping[str, np.ndarray],
    images: int,
) -> tuple[Means, Means]:
    """Return what a member has come to in an epoch, on training and validation images.

    Raises:
        DivergedError: that is not finite, or beyond hope.
    """
    best, steps = program.objective.best, program.steps_per_epoch
    validation = evaluation.means(_total(held_out), images)
    fitting.check_steps(sums, best, (epoch - 1) * steps, epoch)
    first = fitting.first_bound(program, sums)
    fitting.check_held_out(validation, best, epoch * steps, epoch, first)
    return evaluation.means(_total(sums), program.images), validation


def start(
    program: Program, members: Sequence[Member], over: Mesh | None = None
) -> tuple[Member, TrainState]:
    """Stack members that train together, and their states before the first step.

    Each of several devices gets as many members; the last member fills up.
    """
    if over is not None:
        members = [*members, *[members[-1]] * (-len(members) % over.size)]
    everyone: Member = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
    everyone = jax.device_put(everyone, NamedSharding(over, mesh.SPLIT) if over else None)
    return everyone, _begin(program, everyone, _weights(program, everyone, over), over)


def _each(over: Mesh | None, one: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of stacked members and states; each device has members of its own.

    Args:
        over: the devices.
        one: a function of one member, its state, and what all share.
    """

    def of_device(members: Member, states: Any, *shared: Any) -> Any:
        if over is not None and len(members.seed) == 1:  # the program of one alone
            member, state = jax.tree.map(lambda leaf: leaf[0], (members, states))
            return jax.tree.map(lambda leaf: leaf[None], one(member, state, *shared))
        return jax.vmap(lambda member, state: one(member, state, *shared))(members, states)

    def run(members: Member, states: Any, *shared: Any) -> Any:
        where = mesh.SPLIT, mesh.SPLIT, *[mesh.WHOLE] * len(shared)
        return mesh.on_each(over, of_device, where, mesh.SPLIT)(members, states, *shared)

    return run


@partial(jax.jit, static_argnames=("program", "over"))
def _weights(program: Program, members: Member, over: Mesh | None) -> Any:
    return _each(over, lambda member, _: step.weights(program, member))(members, None)


@partial(jax.jit, static_argnames=("program", "over"))
def _begin(program: Program, members: Member, variables: Any, over: Mesh | None) -> TrainState:
    one = partial(step.begin, program)
    states: TrainState = _each(over, one)(members, variables)
    return states


@partial(jax.jit, static_argnames=("program", "over"), donate_argnames="states")
def train_steps(
    program: Program,
    members: Member,
    states: TrainState,
    images: UInt8[Array, "images pixels"],
    first: int,
    stop: int,
    over: Mesh | None = None,
) -> tuple[TrainState, Sums]:
    """`step.train_steps` of all members at once."""
    one = partial(step.train_steps, program)
    end: tuple[TrainState, Sums] = _each(over, one)(members, states, images, first, stop)
    return end


@partial(jax.jit, static_argnames=("program", "over"))
def _term_sums(
    program: Program,
    members: Member,
    states: TrainState,
    images: UInt8[Array, "images pixels"],
    number: int,
    epoch: float,
    over: Mesh | None,
) -> Sums:
    def one(
        member: Member,
        state: TrainState,
        images: UInt8[Array, "images pixels"],
        number: int,
        epoch: float,
    ) -> Sums:
        variables = step.evaluated(program, member, state)
        return evaluation.term_sums(
            program.estimator, variables, images, member.seed, number, epoch, 0, len(images)
        )

    sums: Sums = _each(over, one)(members, states, images, number, epoch)
    return sums


def _of_members(sums: Sums) -> list[dict[str, np.ndarray]]:
    """Bring the terms of all members to the host, as one mapping per member."""
    arrays = {name: np.asarray(values, np.float64) for name, values in sums.items()}
    members = len(next(iter(arrays.values())))
    return [{name: values[i] for name, values in arrays.items()} for i in range(members)]


def _total(terms: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values.sum()) for name, values in terms.items()}


def _one_of(states: TrainState, index: int) -> TrainState:
    """Take the state of a member from the device that has it."""

    def there(leaf: Array) -> Array:
        shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        mine: Array = shards[index * len(shards) // len(leaf)].data
        return mine

    own = jax.tree.map(there, states)
    one: TrainState = _row(own, index % len(jax.tree.leaves(own)[0]))
    return one


@jax.jit
def _row(states: TrainState, index: int) -> TrainState:
    one: TrainState = jax.tree.map(lambda leaf: leaf[index], states)
    return one
