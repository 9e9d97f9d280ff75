"""What saving costs a run of 150 epochs of MNIST's size.

    python -m tests.benchmarks.saving [DIRECTORY]

Trains 784-500-20 on random images for some epochs, and saves into DIRECTORY (by default the
current one), as a run does: the metrics of each epoch; at every tenth epoch the best state, the
latest one and the record. Training waits for a part of that, a thread for the rest. Exits with 1 if
what training waits for is 1 % of a run or more.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from vaectl import config
from vaectl.runs.checkpoints import Checkpoints
from vaectl.runs.directory import RunDir
from vaectl.runs.recorder import rows_of
from vaectl.runs.saved import Info
from vaectl.training import compiled
from vaectl.training import fit as fitting
from vaectl.training.fit import Epoch
from vaectl.training.program import Member, Program
from vaectl.training.step import columns

EPOCHS, EVERY, IMAGES, SHAPE = 150, 10, 50_000, (28, 28, 1)
MOST = 0.01


def main(place: Path, rounds: int = 8) -> bool:
    """Print a row for each thing that is saved; return whether training waits little enough."""
    settings = config.Config(epochs=rounds, batch_size=250)
    program = Program.of(settings, images=IMAGES, image_shape=SHAPE)
    names = columns(program)
    shape = IMAGES + 10_000, program.row
    images = np.random.default_rng(0).integers(0, 2, shape, np.uint8) * 255
    train, validation = jax.device_put((images[:IMAGES], images[IMAGES:]))
    member = Member.of(settings)
    epoch_seconds, appended, waited, saved = [], [], [], []
    with (
        tempfile.TemporaryDirectory(dir=place) as folder,
        RunDir.create(Path(folder), "run", "run", force=False) as run,
        Checkpoints(run.checkpoints) as checkpoints,
    ):
        run.write_metrics([], names)
        state = compiled.init(program, member)
        for event in fitting.fit(program, member, fitting.Saved(state), train, validation):
            if not isinstance(event, Epoch):
                continue
            epoch_seconds.append(event.train_seconds + event.validation_seconds)
            start = time.perf_counter()
            run.append_metrics(rows_of(event), names)
            appended.append(time.perf_counter() - start)
            info = Info(epoch=event.epoch, step=event.step, score=event.validation["elbo"])
            start = time.perf_counter()
            checkpoints.save(event.state, info, run.sync_metrics)
            waited.append(time.perf_counter() - start)
            checkpoints.commit()
            saved.append(time.perf_counter() - start)
    # the first of each also imports and compiles
    epoch, append, wait, save = (
        statistics.median(seconds[1:]) for seconds in (epoch_seconds, appended, waited, saved)
    )
    saves = 2 * EPOCHS // EVERY
    share = (EPOCHS * append + saves * wait) / (EPOCHS * epoch)
    print("| median of | ms |")
    print("| --- | ---: |")
    print(f"| an epoch | {1000 * epoch:.0f} |")
    print(f"| appending an epoch's metrics | {1000 * append:.2f} |")
    print(f"| a save: training waits | {1000 * wait:.1f} |")
    print(f"| a save: until it is on the disk | {1000 * save:.1f} |")
    print(f"{EPOCHS} epochs, {saves} saves: training waits {share:.2%} of the time")
    return share < MOST


if __name__ == "__main__":
    sys.exit(not main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
