"""How much faster or slower a commit is than another one, in pairs on this machine.

    python -m tests.benchmarks.pairs [BEFORE] [AFTER] [--data idx:DIR] [--rounds N]

Takes both commits out of this repository (BEFORE is HEAD~1 and AFTER is HEAD unless named), does
the same things by each, in turn and in changing order, and prints medians of the seconds and of the
ratios of each pair. An epoch is the median that metrics.csv has; all else are whole processes with
a cache of compiled programs. Exits with 1 if the median of a ratio is above --limit.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.bits import taken_out

EPOCHS = 4
PROCESSES = {
    "--help": ("--help",),
    "config show": ("config", "show"),
    "a key that does not exist": ("train", "--set", "optimizer.learningrate=1"),
    "runs": ("runs",),
    "sample": ("sample", "0", "--out", "sample.png"),
}


def main(before: str, after: str, data: str, rounds: int, limit: float) -> bool:
    """Print a row for each thing; return whether no ratio is above the limit."""
    print(f"| seconds | {before} | {after} | ratio |")
    print("| --- | ---: | ---: | ---: |")
    fine = True
    with taken_out(before, after) as trees, tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / tree.name for tree in trees]
        for place in places:
            place.mkdir()
        for name in ("an epoch", *PROCESSES):
            sides = [*zip(trees, places, strict=True)]
            pairs: list[tuple[float, float]] = []
            for number in range(-1, rounds):  # the first pair only fills caches
                order = (0, 1) if number % 2 else (1, 0)
                found = {side: _measured(name, *sides[side], data) for side in order}
                pairs += [(found[0], found[1])] if number >= 0 else []
            ratio = median(new / old for old, new in pairs)
            old, new = (median(side) for side in zip(*pairs, strict=True))
            print(f"| {name} | {old:.3f} | {new:.3f} | {ratio:.3f} |", flush=True)
            fine &= ratio <= limit
    return fine


def _measured(name: str, tree: Path, place: Path, data: str) -> float:
    """Do one thing by the code of a tree, in a directory of its own; return its seconds."""
    if name != "an epoch":
        return _seconds(tree, place, PROCESSES[name])
    config = ("train", str(tree / "configs" / "mnist-z20.yaml"), "--set", f"data.source={data}")
    _seconds(tree, place, (*config, "--epochs", str(EPOCHS), "--name", "0", "--force", "--quiet"))
    with (place / "runs" / "0" / "metrics.csv").open() as file:
        rows = [*csv.DictReader(file)]
    return median(float(row["seconds"]) for row in rows if row["split"] == "train")


def _seconds(tree: Path, place: Path, arguments: tuple[str, ...]) -> float:
    environment = {**os.environ, "PYTHONPATH": str(tree), "VAECTL_CACHE_DIR": str(place / "cache")}
    # as installed by pip, a package is compiled to bytecode
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "vaectl", *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != (2 if "learningrate" in arguments[-1] else 0):
        sys.exit(f"{' '.join(arguments)}: {done.returncode}\n{done.stderr}")
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", nargs="?", default="HEAD~1")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--data", default="digits-5k", help="MNIST, for epochs of its size")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=float, default=1.03)
    options = parser.parse_args()
    fine = main(options.before, options.after, options.data, options.rounds, options.limit)
    sys.exit(not fine)
