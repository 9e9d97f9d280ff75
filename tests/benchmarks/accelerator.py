"""Times on an accelerator: precisions, populations, Fig. 3 of the paper, a likelihood.

    python -m tests.benchmarks.accelerator --data idx:DIR
    python -m tests.benchmarks.accelerator --device cpu --small        (tries the command itself)

Four tables. Epochs of configs/mnist-z20.yaml, in turns: float32 without rounding, float32 as JAX
multiplies it (NVIDIA GPUs round to TF32), and bfloat16. The cost of a member of a population that
trains by vmap, against one member alone. The time of configs/compare/paper-z20.yaml, the paper's
Fig. 3, as a whole command, compilation and report included. The time of IW-5000 of the test images.
Other software is measured by `python -m tests.benchmarks.peers --device gpu`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import jax

from vaectl import data
from vaectl.base import devices
from vaectl.bench import measures
from vaectl.config import reading
from vaectl.experiment import Task
from vaectl.training import compiled
from vaectl.training import fit as fitting
from vaectl.training.events import ignore

CONFIGS = Path(__file__).parents[2] / "configs"
PRECISIONS = {
    "float32, not rounded": ("float32", "highest"),
    "float32, as JAX has it": ("float32", None),
    "bfloat16": ("bfloat16", None),
}
"""`model.precision`, and how JAX is to multiply float32."""


def epochs(task: Task, multiplied: str | None) -> Iterator[float]:
    """Train on and on; yield the seconds of each epoch."""
    splits = task.images()
    with jax.default_device(task.device):
        with jax.default_matmul_precision(multiplied):
            state = compiled.init(task.program, task.member)
            events = fitting.fit(task.program, task.member, fitting.Saved(state), *splits)
        while True:
            with jax.default_matmul_precision(multiplied):
                event = next(events)
            if isinstance(event, fitting.Epoch):
                yield event.train_seconds


def commands(source: str, device: str, folder: str, *, small: bool) -> Iterator[tuple[str, float]]:
    """Run Fig. 3 of the paper and an importance-weighted likelihood; yield the seconds of each."""
    common = ["--runs-dir", folder, "-q"]
    training = ["--set", f"data.source={source}", "--device", device, *common]
    compare = ["compare-optimizers", str(CONFIGS / "compare" / "paper-z20.yaml")]
    seeds, count = ("2", "50") if small else ("5", "5000")
    study = ["--seeds", seeds, *(["--epochs", "1"] if small else [])]
    yield f"Fig. 3, four optimizers, {seeds} seeds", _seconds([*compare, *study, *training])
    train = ["train", str(CONFIGS / "mnist-z20.yaml"), "--epochs", "1", "--name", "one"]
    _seconds([*train, *training])
    bound = ["evaluate", "one", "--importance-samples", count]
    yield f"IW-{count} of the test images", _seconds([*bound, *common])


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    silent = subprocess.DEVNULL
    subprocess.run([sys.executable, "-m", "vaectl", *command], check=True, stdout=silent)
    return time.perf_counter() - start


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="tfds:mnist", help="as data.source")
    parser.add_argument("--device", default="gpu", help="as --device of vaectl")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a try that takes a minute")
    options = parser.parse_args()
    source = "digits-5k" if options.small else options.data
    [device, *_] = devices.several(options.device)

    def task(precision: str) -> Task:
        changes = [f"data.source={source}", f"model.precision={precision}", "epochs=100000"]
        settings = reading.load(CONFIGS / "mnist-z20.yaml", assignments=changes)
        return Task(settings, data.load(settings.data), [device], False, ignore)

    print(f"{device.device_kind} ({device.platform}), jax {jax.__version__}\n")
    trainings = {name: epochs(task(own), how) for name, (own, how) in PRECISIONS.items()}
    times: dict[str, list[float]] = {name: [] for name in trainings}
    for number in range(options.rounds + 1):
        for name, training in trainings.items():
            seconds = next(training)
            times[name] += [seconds] if number else []  # the first epoch warms up
    first = times[next(iter(times))]
    print("| training, z = 20 | s an epoch | times as fast as the first |\n| --- | ---: | ---: |")
    for name, own in times.items():
        faster = median(one / other for one, other in zip(first, own, strict=True))
        print(f"| {name} | {median(own):.3f} | {faster:.2f} |", flush=True)

    print("\n| members by vmap | time per member / time of a run alone |\n| ---: | ---: |")
    one = task("float32")
    images = jax.device_put(one.dataset.train.flat, device)
    for members in (2,) if options.small else (16, 64):
        amount = measures.Amount(members=members, members_on_cpu=members)
        with jax.default_device(device):
            found = measures.members(one.program, one.settings, device, images, 3, amount)
        print(f"| {members} | {found.together:.3f} |", flush=True)

    print("\n| command | s |\n| --- | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name, took in commands(source, options.device, folder, small=options.small):
            print(f"| {name} | {took:.1f} |", flush=True)


if __name__ == "__main__":
    main()
