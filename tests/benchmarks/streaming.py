"""What it costs to train on images that stay on disk: time, and memory.

    python -m tests.benchmarks.streaming [--rounds N] [--gigabytes G] [--side S] [--folder DIR]

Epochs at MNIST's shape, in memory and from disk, in turn and in changing order: medians of the
seconds, and of the ratios of each pair; so, too, of the seconds that processors worked, which other
work on the machine changes less. The file is in the system's cache of files then, as that of
a set which fits into memory is.

With --gigabytes, a set of so many is generated in --folder (and removed), written to the disk, and
taken out of the system's cache; `vaectl train` trains an epoch on it. Peaks of its memory are those
of /proc: RssAnon is what the process itself holds. A set of 2,000 such images tells what the
program needs anyway.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median

import jax
import numpy as np

from vaectl import config, data
from vaectl.config import reading
from vaectl.data import npy
from vaectl.training import compiled
from vaectl.training import fit as fitting
from vaectl.training.fit import Epoch
from vaectl.training.program import Member, Program

PIECE = 64 * 2**20


def speed(folder: Path, rounds: int) -> None:
    """Print the time of an epoch at MNIST's shape."""
    for name, count in (("train", 60_000), ("test", 10_000)):
        generate(folder / f"x_{name}.npy", count, (28, 28))
    settings = reading.load(Path("configs/mnist-z20.yaml"), assignments=["epochs=10000"])
    device = jax.devices("cpu")[0]
    trainings: dict[str, Iterator[float]] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    for name, memory_gb in (("in memory", None), ("from disk", 0)):
        where = config.Data(source=f"npy:{folder}", memory_gb=memory_gb)
        trainings[name] = epochs(settings.model_copy(update={"data": where}), device)
        times[name] = []
    for number in range(-1, rounds):  # the first pair compiles, and fills caches
        for name in list(trainings)[:: 1 if number % 2 else -1]:
            before = time.process_time()
            seconds = next(trainings[name])
            found = seconds, time.process_time() - before
            times[name] += [found] if number >= 0 else []
    print(f"50,000 images of 28x28, {rounds} pairs of epochs, validation of 10,000 included")
    print("| seconds | in memory | from disk | ratio |")
    print("| --- | ---: | ---: | ---: |")
    for which, what in enumerate(("of an epoch", "of processors")):
        here, there = ([pair[which] for pair in side] for side in times.values())
        ratio = median(b / a for a, b in zip(here, there, strict=True))
        print(f"| {what} | {median(here):.3f} | {median(there):.3f} | {ratio:.3f} |", flush=True)


def epochs(settings: config.Config, device: jax.Device) -> Iterator[float]:
    """Train; yield the seconds of each epoch."""
    dataset = data.load(settings.data)
    splits = dataset.train.flat, dataset.validation.flat
    if not dataset.on_disk:
        splits = jax.device_put(splits, device)
    program = Program.of(
        settings, images=len(dataset.train.images), image_shape=dataset.image_shape
    )
    member = jax.device_put(Member.of(settings), device)
    state = compiled.init(program, member)
    for event in fitting.fit(program, member, fitting.Saved(state), *splits):
        if isinstance(event, Epoch):
            yield event.train_seconds + event.validation_seconds


def generate(path: Path, count: int, shape: tuple[int, ...]) -> None:
    """Write images of random bytes, and take them out of the system's cache of files."""
    some = max(min(PIECE // int(np.prod(shape)), count), 1)
    first = np.random.default_rng(0).integers(0, 256, (some, *shape), np.uint8)
    pieces = (
        image ^ np.uint8(number % 251)
        for number in range(-(-count // some))
        for image in first[: count - number * some]
    )
    with path.open("wb") as file:
        npy.write(file, count, pieces)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def large(folder: Path, gigabytes: float, side: int) -> None:
    """Print the memory and the time of an epoch on a large set."""
    size = side * side * 3
    print(f"\nimages of {side}x{side}x3, data.memory_gb=1")
    print("| images | GB | peak RssAnon, MB | peak RssFile, MB | reading, s | an epoch, s | MB/s |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in (2000, int(gigabytes * 1e9) // size):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            for name, number in (("train", count), ("test", 1000)):
                generate(Path(place, f"x_{name}.npy"), number, (side, side, 3))
            anon, file, reading_, epoch = trained(Path(place), min(count // 2, 5000))
        total = (count + 1000) * size
        print(
            f"| {count:,} | {total / 1e9:.1f} | {anon / 1e3:,.0f} | {file / 1e3:,.0f} "
            f"| {reading_:.0f} | {epoch:.0f} | {count * size / 1e6 / epoch:,.0f} |",
            flush=True,
        )


def trained(place: Path, held_out: int) -> tuple[int, int, float, float]:
    """Train an epoch; return peaks of memory in kB, and seconds of reading and of the epoch."""
    sets = {
        "data.source": f"npy:{place}",
        "data.memory_gb": 1,
        "data.validation_size": held_out,
        "batch_size": 500,
        "model.hidden_size": 32,
        "epochs": 1,
    }
    command = [sys.executable, "-m", "vaectl", "train", "--name", "a", "--runs-dir", f"{place}/r"]
    command += [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    start, reading_, most = time.monotonic(), 0.0, {"RssAnon": 0, "RssFile": 0}
    with (place / "err").open("wb") as err:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err)
    while process.poll() is None:
        with suppress(OSError):  # it has just ended
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in most:
                    most[name] = max(most[name], int(value.split()[0]))
        if not reading_ and b"training mlp" in (place / "err").read_bytes():
            reading_ = time.monotonic() - start
        time.sleep(0.05)
    if process.returncode:
        sys.exit((place / "err").read_text())
    with (place / "r" / "a" / "metrics.csv").open() as file:
        epoch = sum(float(row["seconds"]) for row in csv.DictReader(file))
    return most["RssAnon"], most["RssFile"], reading_, epoch


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--gigabytes", type=float, default=0.0)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    if options.rounds:
        with tempfile.TemporaryDirectory(dir=options.folder) as here:
            speed(Path(here), options.rounds)
    if options.gigabytes:
        large(options.folder, options.gigabytes, options.side)
