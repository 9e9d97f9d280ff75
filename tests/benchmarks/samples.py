"""What the further samples of an importance-weighted bound cost, beside their matrix products.

    python -m tests.benchmarks.samples [K] [ROUNDS]

Trains 784-500-20 on random binary images of MNIST's shape by the ELBO with one sample and by the
IWAE bound with K samples (5 by default), an epoch of each in turns, with the matrix products of
both alone. The cost of the further samples is what the second takes beyond the first; it is set
against what its products take beyond the first's. Exits with 1 if it is more than 1.15 times that.
"""

import sys
from collections.abc import Callable

import jax
import numpy as np

from vaectl import config
from vaectl.bench import floor, measures
from vaectl.bench.floor import Floor
from vaectl.training.program import Member, Program

IMAGES, SHAPE = 10_000, (28, 28, 1)
MOST = 1.15


def main(samples: int = 5, rounds: int = 15) -> bool:
    """Print a row for each bound; return whether the further samples cost little enough."""
    images = np.random.default_rng(0).integers(0, 2, (IMAGES, 28 * 28), np.uint8) * 255
    train = jax.device_put(images)
    tasks: dict[str, Callable[[], object]] = {}
    for name, count in (("elbo", 1), ("iwae", samples)):
        objective = {"name": name, "samples": count}
        settings = config.Config.model_validate({"batch_size": 250, "objective": objective})
        program = Program.of(settings, images=IMAGES, image_shape=SHAPE)
        tasks[name] = measures.epochs(program, Member.of(settings), train)
        tasks[f"{name} floor"] = Floor(floor.step(program), program.steps_per_epoch).seconds
    times = measures.interleaved(rounds, tasks)
    print("| ms of a step | in all | products alone |")
    print("| --- | ---: | ---: |")
    steps = 1e3 / program.steps_per_epoch
    for name, title in (("elbo", "ELBO, 1 sample"), ("iwae", f"IWAE, {samples} samples")):
        whole, least = (steps * np.median(times[key]) for key in (name, f"{name} floor"))
        print(f"| {title} | {whole:.2f} | {least:.2f} |")
    more = np.median(times["iwae"] - times["elbo"])
    least = np.median(times["iwae floor"] - times["elbo floor"])
    print(f"the further samples cost {more / least:.2f} times their products; the aim is {MOST}")
    return bool(more < MOST * least)


if __name__ == "__main__":
    sys.exit(not main(*map(int, sys.argv[1:])))
