"""What several devices of this machine's CPU do for one model, and that the bits stay.

    python -m tests.benchmarks.devices [CONFIG] [--rounds N] [--set KEY=VALUE ...]

Epochs on 1, 2, 4 and 8 devices in turn, by batches of 16 micro-batches, and once by whole batches:
medians of the seconds, their ratio to one device, and the SHA-256 of the state after the last one.
The devices share the cores, so a ratio says what sharing costs or gains here; it is no figure of
a machine of several GPUs.
"""

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import jax
import numpy as np

from vaectl import data
from vaectl.base import devices
from vaectl.config import reading
from vaectl.experiment import Task
from vaectl.training import compiled
from vaectl.training import fit as fitting
from vaectl.training.events import ignore
from vaectl.training.fit import Epoch

PARTS, MOST = 16, 8


def epochs(task: Task) -> Iterator[tuple[float, str]]:
    """Train on and on; yield the seconds of each epoch, and the digest of its state."""
    with jax.default_device(task.device):
        splits = task.images()
        state = compiled.init(task.program, task.member)
        for event in fitting.fit(task.program, task.member, fitting.Saved(state), *splits):
            if isinstance(event, Epoch):
                leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(event.state)]
                digest = hashlib.sha256(b"".join(leaves)).hexdigest()[:12]
                yield event.train_seconds, digest


def main() -> None:
    """Print a row for each number of devices."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    options = parser.parse_args()
    chosen = devices.several(f"cpu:{MOST}")
    trainings = {}
    for count, parts in ((1, 1), (1, PARTS), (2, PARTS), (4, PARTS), (8, PARTS)):
        assignments = ["batch_size=256", *options.assignments, f"microbatches={parts}"]
        settings = reading.load(options.config, assignments=[*assignments, "epochs=100000"])
        task = Task(settings, data.load(settings.data), chosen[:count], False, ignore)
        trainings[count, parts] = epochs(task)
    found: dict[tuple[int, int], list[tuple[float, str]]] = {key: [] for key in trainings}
    for _ in range(options.rounds + 1):  # the first epoch warms up
        for key, training in trainings.items():
            found[key].append(next(training))
    one = found[1, PARTS]
    print(f"{'devices':>8}{'parts':>7}{'s an epoch':>12}{'against one':>13}  state")
    for (count, parts), rows in found.items():
        ratio = median(row[0] / base[0] for row, base in zip(rows[1:], one[1:], strict=True))
        seconds = median(row[0] for row in rows[1:])
        print(f"{count:>8}{parts:>7}{seconds:>12.3f}{ratio:>13.2f}  {rows[-1][1]}")


if __name__ == "__main__":
    main()
