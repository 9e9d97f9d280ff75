"""The memory that a run needs, told by the compiler before any of it is taken.

XLA reports the sizes of the arguments, results and intermediate arrays of a compiled program. The
estimate is never less than what the largest matrix product reads and writes. Functions here are
jitted; of arrays among their arguments, shapes are enough.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from vaectl.base import devices, memory
from vaectl.base.errors import ConfigError
from vaectl.base.shapes import inner_programs, products, shaped
from vaectl.evaluation import means as evaluation
from vaectl.training import compiled
from vaectl.training.fit import CHUNK_BYTES
from vaectl.training.program import Program


def check_training(
    program: Program,
    held_out: int,
    device: jax.Device,
    processes: int = 1,
    *,
    on_disk: bool = False,
) -> bool:
    """Refuse a run that does not fit; tell whether it only fits with its images in host memory.

    Args:
        program: what is to be trained.
        held_out: images to validate on.
        device: the device that trains.
        processes: the number of processes that train such a run at once.
        on_disk: whether the images are streamed from disk anyway.

    Returns:
        Whether the images must be streamed: from memory never to a CPU, which shares it.

    Raises:
        ConfigError: it does not fit; the message has the memory needed, and the hint a key to
            lower.
    """
    there, images = devices.memory_of(device), (program.images + held_out) * program.row
    there //= processes
    if not on_disk and _at_most(program, held_out) <= there:
        return False
    need = of_training(program, held_out)
    # two chunks of batches, and a part of the validation split
    parts = 2 * max(CHUNK_BYTES, program.batch_size * program.row)
    parts += max(program.estimator.part_bytes, program.estimator.batch_size * program.row)
    streamed = need - images + parts
    if on_disk or (device.platform != "cpu" and need > there):
        if streamed <= there:
            return True
        need = streamed if on_disk else need
    if too_much := memory.excess(need, there):
        smaller = _halves(program)
        key = min(smaller, key=lambda key: _at_most(smaller[key], held_out))
        hint = f"lower {key}" + ", or train in fewer processes or on fewer devices" * (
            processes > 1
        )
        raise ConfigError(f"this run {too_much}", hint=hint)
    return False


def of_training(program: Program, held_out: int) -> int:
    """Bytes of a run that validates on so many images."""
    state, steps, means = _calls(program, held_out)
    pixels = program.row
    most = max(of_program(*steps) + held_out * pixels, of_program(*means) + program.images * pixels)
    # the best epoch's state is kept beside the latest
    return most + of_arrays(state)


def _at_most(program: Program, held_out: int) -> int:
    """Return an upper bound on the bytes that a run needs, without compiling."""
    state, steps, means = _calls(program, held_out)
    images = (program.images + held_out) * program.row
    return max(at_most(*steps), at_most(*means)) + of_arrays(state) + images


def _calls(program: Program, held_out: int) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """Return the state of a run, and its two compiled functions with their arguments."""
    member = program.somebody
    state = compiled.shapes(program, member)
    images, validation = (
        shaped((count, program.row), jnp.uint8) for count in (program.images, held_out)
    )
    steps = compiled.train_steps, program, member, state, images, 0, 1
    estimator, params = program.estimator, state.params
    means = (
        *(evaluation.compiled_sums, estimator, params, validation),
        *(member.seed, 0, 0.0, 0, held_out),
    )
    return state, steps, means


def at_most(function: Any, *arguments: object) -> int:
    """Return the bytes of all arrays of a function, as if none were freed, without compiling."""
    program = function.trace(*arguments).jaxpr.jaxpr
    largest = max(map(_of_product, products(program)), default=0)
    return sum(map(_bytes, program.invars)) + _of_results(program) + 2 * largest


def _of_results(program: Any) -> int:
    return sum(
        sum(map(_bytes, equation.outvars)) + sum(map(_of_results, inner_programs(equation)))
        for equation in program.eqns
    )


def excess(there: int, function: Any, *arguments: object) -> str:
    """Say that a function needs more memory than there is; return an empty text if it fits."""
    if at_most(function, *arguments) <= there:
        return ""
    return memory.excess(of_program(function, *arguments), there)


def of_program(function: Any, *arguments: object) -> int:
    """Bytes of a compiled function's arguments, results and intermediate arrays."""
    traced = function.trace(*arguments)
    found = traced.lower().compile().memory_analysis()
    sizes = found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes
    # on a CPU XLA does not count what fused products allocate when they run
    product = max(map(_of_product, products(traced.jaxpr.jaxpr)), default=0)
    return max(int(sum(sizes) - found.alias_size_in_bytes), product)


def _of_product(equation: Any) -> int:
    return sum(map(_bytes, equation.invars + equation.outvars))


def _bytes(variable: Any) -> int:
    size = getattr(variable.aval, "size", 0)
    # JAX reports no size for random keys
    return int(size) * int(getattr(variable.aval.dtype, "itemsize", 8))


def of_arrays(tree: object) -> int:
    """Bytes of arrays, or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_program(what: str, hint: str, function: Callable[..., Any], *arguments: object) -> None:
    """Refuse a computation that does not fit on the first device.

    Raises:
        ConfigError: it does not fit; the message has the memory needed.
    """
    if too_much := excess(devices.memory_of(jax.devices()[0]), function, *arguments):
        raise ConfigError(f"{what}: this {too_much}", hint=hint)


def _halves(program: Program) -> dict[str, Program]:
    """Return the program with half as much of each key that memory depends on, by that key."""
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
        # half a batch need not have as many parts
        "batch_size": replace(
            program, batch_size=_half(program.batch_size), microbatches=1, mesh=None
        ),
        "objective.samples": replace(program, samples=_half(program.samples)),
        "data.train_size": replace(program, images=_half(program.images)),
    }


def _half(number: int) -> int:
    return -(-number // 2)
