"""What a run needs in memory, told by the compiler before any of it is taken.

XLA says of a compiled program how large its arguments, results and intermediate arrays are. It is
never less than what the largest matrix product reads and writes.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from vaectl.base import devices, memory
from vaectl.base.errors import ConfigError
from vaectl.base.shapes import products, shaped
from vaectl.evaluation import means as evaluation
from vaectl.evaluation.means import BATCH_SIZE, PART_BYTES
from vaectl.training import compiled
from vaectl.training.fit import CHUNK_BYTES
from vaectl.training.program import Member, Program


def check_training(program: Program, held_out: int, device: jax.Device) -> bool:
    """Refuse a run that does not fit; say whether it fits if its images stay in host memory.

    Args:
        program: what is to be trained.
        held_out: images to validate on.
        device: where.

    Returns:
        Whether the images must be streamed: never to a CPU, which shares their memory.

    Raises:
        ConfigError: with what is needed, and the key that is best lowered.
    """
    there, images = devices.memory_of(device), (program.images + held_out) * program.pixels
    need = of_training(program, held_out)
    # two chunks of batches, and a part of the validation split
    parts = 2 * max(CHUNK_BYTES, program.batch_size * program.pixels)
    parts += max(PART_BYTES, BATCH_SIZE * program.pixels)
    if device.platform != "cpu" and need > there >= need - images + parts:
        return True
    if too_much := memory.excess(need, there):
        smaller = _halves(program)
        key = min(smaller, key=lambda key: of_training(smaller[key], held_out))
        raise ConfigError(f"this run {too_much}", hint=f"lower {key}")
    return False


def of_training(program: Program, held_out: int) -> int:
    """Bytes of a run that validates on so many images."""
    member = Member(jnp.uint32(0), jnp.float32(0))
    state = compiled.shapes(program, member)
    images = _images(program.images, program.pixels)
    validation = _images(held_out, program.pixels)
    steps = of_program(compiled.train_steps, program, member, state, images, 0, 1)
    means = of_program(
        evaluation.compiled_sums,
        program.estimator,
        state.params,
        validation,
        member.seed,
        0,
        0.0,
        0,
        held_out,
    )
    # the best epoch's state is kept beside the latest
    most: int = max(steps + validation.size, means + images.size)
    return most + of_arrays(state)


def of_program(function: Any, *arguments: object) -> int:
    """Bytes of a compiled function's arguments, results and intermediate arrays.

    Args:
        function: a jitted function.
        arguments: of it; of arrays, shapes are enough.
    """
    traced = function.trace(*arguments)
    found = traced.lower().compile().memory_analysis()
    sizes = found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes
    # on a CPU XLA does not count what fused products allocate when they run
    product = max(map(_of_product, products(traced.jaxpr.jaxpr)), default=0)
    return max(int(sum(sizes) - found.alias_size_in_bytes), product)


def _of_product(equation: Any) -> int:
    return sum(v.aval.size * v.aval.dtype.itemsize for v in equation.invars + equation.outvars)


def of_arrays(tree: object) -> int:
    """Bytes of arrays, or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_program(what: str, hint: str, function: Callable[..., Any], *arguments: object) -> None:
    """Refuse a computation that does not fit on the first device.

    Args:
        what: for the message.
        hint: likewise.
        function: a jitted function.
        arguments: of it.

    Raises:
        ConfigError: with what is needed.
    """
    need = of_program(function, *arguments)
    if too_much := memory.excess(need, devices.memory_of(jax.devices()[0])):
        raise ConfigError(f"{what}: this {too_much}", hint=hint)


def _images(count: int, pixels: int) -> Any:
    return shaped((count, pixels), jnp.uint8)


def _halves(program: Program) -> dict[str, Program]:
    """Each key that memory depends on, and the program with half as much of it."""
    vae, model = program.vae, program.vae.model
    found = {
        f"model.{key}": replace(
            program, vae=replace(vae, model=model.model_copy(update={key: _half(value)}))
        )
        for key, value in model
        if type(value) is int and value > 1
    }
    return found | {
        "model.code_size": replace(program, vae=replace(vae, code_size=_half(vae.code_size))),
        "batch_size": replace(program, batch_size=_half(program.batch_size)),
        "objective.samples": replace(program, samples=_half(program.samples)),
        "data.train_size": replace(program, images=_half(program.images)),
    }


def _half(number: int) -> int:
    return -(-number // 2)
