"""Several devices that train one model, or the members of a population.

One model: a batch is cut into micro-batches, whose gradients are added as a balanced binary tree.
Each device has a run of neighbouring leaves, so it can add a whole branch alone, and the additions
are the same ones however many devices there are. See `summed`.

A population: each device trains members of its own, and nothing travels between devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from jaxtyping import Array

Tree = TypeVar("Tree")
Result = TypeVar("Result")

AXIS = "devices"
WHOLE, SPLIT = PartitionSpec(), PartitionSpec(AXIS)  # type: ignore[no-untyped-call]
"""The placements of an array: whole on each device, or split equally along its first axis."""


def of(devices: Sequence[jax.Device]) -> Mesh | None:
    """Return the mesh of devices; None for a single one, or none at all."""
    if len(devices) < 2:
        return None
    return jax.make_mesh((len(devices),), (AXIS,), (jax.sharding.AxisType.Auto,), devices=devices)


def everywhere(devices: Sequence[jax.Device]) -> Sharding:
    """Return the placement of an array of which each device has a whole copy."""
    mesh = of(devices)
    return NamedSharding(mesh, WHOLE) if mesh else SingleDeviceSharding(devices[0])


def put(tree: Tree, place: Sharding) -> Tree:
    """Move arrays to a placement; arrays that are there already stay.

    Args:
        tree: arrays that this process has, equal in all processes.
        place: perhaps on devices of other processes too.
    """

    def whole(leaf: Array) -> Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == place:
            return leaf
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, place, lambda index: host[index])

    if place.is_fully_addressable:
        there: Tree = jax.device_put(tree, place)
    else:
        there = jax.tree.map(whole, tree)
    return there


def copied(tree: Tree) -> Tree:
    """Copy arrays on their devices without compiling; `jnp.copy` compiles once per shape."""
    copies: Tree = jax.device_put(tree, may_alias=False)
    return copies


def beside(tree: Any, array: Array) -> Any:
    """Move arrays to the placement of another array, if that one is committed to its devices."""
    return put(tree, array.sharding) if array.committed else jax.tree.map(jnp.asarray, tree)


def on_first(tree: Tree) -> Tree:
    """Return this process's first copies of arrays that each device has whole."""
    first: Tree = jax.tree.map(lambda leaf: leaf.addressable_shards[0].data, tree)
    return first


def on_each(
    mesh: Mesh | None,
    function: Callable[..., Any],
    inputs: PartitionSpec | tuple[PartitionSpec, ...] = WHOLE,
    outputs: PartitionSpec = WHOLE,
) -> Callable[..., Any]:
    """Let each device run a function; without a mesh it is the function itself.

    Args:
        mesh: the devices.
        function: a function of arrays; it captures no arrays.
        inputs: the placement of its arguments: one for all, or one for each.
        outputs: the placement of its results; whole results are equal on all devices.
    """
    if mesh is None:
        return function
    mapped: Callable[..., Any] = jax.shard_map(
        function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False
    )
    return mapped


def shared(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let the devices of a mesh run a function of arrays that each of them has whole.

    Args:
        function: its first argument has the mesh, as `mesh`.
    """

    @wraps(function)
    def on_devices(what: Any, *arrays: Any) -> Result:
        result: Result = on_each(what.mesh, partial(function, what))(*arrays)
        return result

    return on_devices


def summed(mesh: Mesh | None, function: Callable[..., Tree], *parts: Any) -> Tree:
    """Sum a function over parts of its arguments, in the same order on any number of devices.

    The bits do not depend on that number either, as long as each device has two parts or more: the
    compiler computes a single one in another way, which may change the last bits.

    Args:
        mesh: the devices that run this; None for a single one.
        function: computed for one part at a time, on the device that has it.
        parts: stacked arguments; their number is a power of two, and at least that of devices.

    Returns:
        The sum of each array that the function returns.
    """
    own = _own(mesh, parts) if mesh else parts

    total: Tree = _tree_sum(jax.lax.map(lambda part: function(*part), own))
    return _tree_sum(jax.lax.all_gather(total, AXIS)) if mesh else total


def _own(mesh: Mesh, stacked: Tree) -> Tree:
    """Take the device's equal part of the first axis."""

    def own(x: Array) -> Array:
        count = len(x) // mesh.size
        part: Array = jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * count, count)
        return part

    part: Tree = jax.tree.map(own, stacked)
    return part


def _tree_sum(stacked: Tree) -> Tree:
    """Add neighbours until one is left; integers and keys are equal: keep the first."""

    def add(x: Array) -> Array:
        while len(x) > 1 and jnp.issubdtype(x.dtype, jnp.inexact):
            x = x[0::2] + x[1::2]
        return x[0]

    total: Tree = jax.tree.map(add, stacked)
    return total


def gathered(mesh: Mesh | None, function: Callable[..., Tree], each: Array) -> Tree:
    """Map a function over the first axis of an array; each device computes a part of the results.

    Args:
        mesh: the devices that run this; None for a single one.
        function: of one element.
        each: of any length; padded by its last element to a multiple of the number of devices.

    Returns:
        The stacked results, the same on all devices.
    """
    if mesh is None:
        alone: Tree = jax.lax.map(function, each)
        return alone
    padded = jnp.pad(each, (0, -len(each) % mesh.size), mode="edge")
    every = jax.lax.all_gather(jax.lax.map(function, _own(mesh, padded)), AXIS, tiled=True)
    found: Tree = jax.tree.map(lambda x: x[: len(each)], every)
    return found
