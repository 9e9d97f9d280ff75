"""Randomness as a function of (seed, stream, step): no key is stored, none is used twice.

A run that was stopped and resumed draws what it would have drawn; the same seed gives every
optimizer the same weights, batches and noise; and a new stream never moves an old one.
"""

import zlib
from typing import Literal

import jax
from jaxtyping import Array, Int, Key, UInt32

Stream = Literal["init", "shuffle", "noise", "binarize", "evaluate", "sample"]


def key(
    seed: UInt32[Array, ""] | int, stream: Stream, step: Int[Array, ""] | int = 0
) -> Key[Array, ""]:
    """Fold a stream's name and a step into the seed.

    Args:
        seed: of the run; traced, so that another seed is the same compiled program.
        stream: what the numbers are for.
        step: of the stream: a training step, an epoch, a batch.
    """
    named = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(named, step)
