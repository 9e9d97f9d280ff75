"""Random keys as a function of (seed, stream, step): no key is stored, none is used twice.

A resumed run draws the same numbers as one that never stopped; the same seed gives every optimizer
the same initial weights, batches and noise; and a new stream does not change the others.
"""

import zlib
from numbers import Integral
from typing import Any, Literal

import jax
from jaxtyping import Array, Int, Key, UInt32

Stream = Literal["init", "shuffle", "noise", "binarize", "evaluate", "sample", "diagnose"]


def key(
    seed: UInt32[Array, ""] | int, stream: Stream, step: Int[Array, ""] | int = 0
) -> Key[Array, ""]:
    """Fold a stream's name and a step into the seed.

    Args:
        seed: the run's seed; it may be traced, so that all seeds share one compiled program.
        stream: what the random numbers are for.
        step: the position in the stream: a training step, an epoch or a batch.

    Raises:
        ValueError: a seed that is no array is not from 0 to 2**32 - 1.
    """
    if isinstance(seed, Integral):
        check_seed(int(seed))
    named = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(named, step)


def check_seed(seed: int) -> None:
    """Refuse a seed that has the same random numbers as another one, or none.

    Raises:
        ValueError: it is not from 0 to 2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"the seed {seed}; it must be from 0 to 4294967295")


def is_key(leaf: Any) -> bool:
    """Tell whether an array, or its shape and type, is of random keys."""
    return bool(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def as_numbers(tree: Any) -> Any:
    """Replace random keys by the numbers that they are made of, which travel between devices.

    A model keeps keys for layers such as dropout.
    """
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def as_keys(tree: Any, like: Any) -> Any:
    """Undo `as_numbers`.

    Args:
        tree: has numbers in place of keys.
        like: the same tree with keys, or with their shapes and types.
    """
    return jax.tree.map(
        lambda leaf, of: jax.random.wrap_key_data(leaf) if is_key(of) else leaf, tree, like
    )
