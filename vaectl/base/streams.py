"""Random keys as a function of (seed, stream, step): no key is stored, none is used twice.

A resumed run draws the same numbers as one that never stopped; the same seed gives every optimizer
the same initial weights, batches and noise; and a new stream does not change the others.
"""

import zlib
from typing import Literal

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
    """
    named = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(named, step)
