"""What a run needs in memory, estimated before any of it is taken.

The estimates count arrays, at 4 bytes a number. A process on a CPU was measured to grow by 1.0 to
1.2 times as much (tests/test_footprint.py).
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from vaectl import config, devices, memory, training
from vaectl.errors import ConfigError
from vaectl.evaluation import BATCH_SIZE, IMPORTANCE_BATCH, PART_BYTES
from vaectl.fitting import CHUNK_BYTES
from vaectl.training import Member, Program


def check_training(program: Program, held_out: int, device: jax.Device) -> bool:
    """Refuse a run that does not fit; say whether it fits if its images stay in host memory.

    Args:
        program: what is to be trained.
        held_out: images to validate on.
        device: where.

    Returns:
        Whether the images must be streamed: never to a CPU, which shares their memory.

    Raises:
        ConfigError: with the estimate, and the key that is best lowered.
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


def check_evaluation(model: config.Model, pixels: int, samples: int) -> None:
    """Refuse an evaluation that does not fit.

    Raises:
        ConfigError: with the estimate.
    """
    need = of_evaluation(model, pixels, IMPORTANCE_BATCH, samples)
    if too_much := memory.excess(need, devices.memory_of(jax.devices()[0])):
        raise ConfigError(f"--samples {samples}: this {too_much}", hint="lower --samples")


def check_images(model: config.Model, pixels: int, count: int, samples: int = 1) -> None:
    """Refuse to encode or decode more images at once than fit, with so many samples of z each.

    Raises:
        ConfigError: with the estimate.
    """
    need = of_evaluation(model, pixels, count, samples)
    if too_much := memory.excess(need, devices.memory_of(jax.devices()[0])):
        what = f"{count:,} images at once" + f", {samples:,} samples of each" * (samples > 1)
        raise ConfigError(f"{what}: this {too_much}", hint="take fewer")


def of_training(program: Program, held_out: int) -> int:
    """Bytes of a run that validates on so many images."""
    member = Member(jnp.uint32(0), jnp.float32(0))
    state = jax.eval_shape(lambda: training.init(program, member))
    # the best epoch's state is kept beside the latest, and a step has a gradient
    weights = 2 * _bytes(state) + _bytes(state.params)
    size, hidden, code = program.batch_size, program.model.hidden_size, program.model.code_size
    pixels, samples = program.pixels, program.samples
    # forwards and backwards; the logits and the terms of their likelihood are the most
    numbers = pixels + 2 * hidden + 4 * code + samples * (4 * pixels + 2 * hidden + 3 * code)
    evaluation = of_evaluation(program.model, pixels, min(BATCH_SIZE, held_out), samples)
    images = (program.images + held_out) * pixels
    return weights + images + max(4 * size * numbers, evaluation)


def of_evaluation(model: config.Model, pixels: int, images: int, samples: int) -> int:
    """Bytes of images on their way through the model, with so many samples of z each."""
    return 4 * images * (1 + samples) * (pixels + model.hidden_size + 2 * model.code_size)


def _halves(program: Program) -> dict[str, Program]:
    """Each key that memory depends on, and the program with half as much of it."""
    model = program.model
    return {
        "model.hidden_size": replace(
            program, model=model.model_copy(update={"hidden_size": _half(model.hidden_size)})
        ),
        "model.code_size": replace(
            program, model=model.model_copy(update={"code_size": _half(model.code_size)})
        ),
        "batch_size": replace(program, batch_size=_half(program.batch_size)),
        "objective.samples": replace(program, samples=_half(program.samples)),
        "data.train_size": replace(program, images=_half(program.images)),
    }


def _half(number: int) -> int:
    return -(-number // 2)


def _bytes(tree: object) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
