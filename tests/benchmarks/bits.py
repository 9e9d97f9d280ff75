"""Whether two commits train to the same bits, on this machine.

    python -m tests.benchmarks.bits [BEFORE] [AFTER] [--data idx:DIR] [--epochs N]

Takes both commits out of this repository (BEFORE is HEAD~1 and AFTER is HEAD unless named), trains
the same configurations with each, in turn, and prints the SHA-256 of the latest training state, and
of metrics.csv without its times. Exits with 1 if one differs.

Bits differ between processors and numbers of threads, so the values mean nothing elsewhere: only
that two of them are equal does. The check reads the files of a checkpoint, and no code of vaectl,
so that it outlives a change of names: a state is the sorted hashes of its arrays.
"""

import argparse
import csv
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint

PAPER = "configs/paper/z20.yaml"
STOCHASTIC = ("--set", "data.binarization=stochastic", "--set", "objective.samples=3")
EXPERIMENTS = {
    # with the activation that was the default once
    "quickstart": ("configs/quickstart.yaml", "--set", "model.activation=tanh"),
    **{name: (PAPER, "--optimizer", name) for name in ("adam", "rmsprop", "adagrad", "sgd")},
    "stochastic, L = 3": (PAPER, *STOCHASTIC),
}
TIMES = "seconds"
"""What columns of times end in."""


def main(before: str, after: str, data: str, epochs: int) -> bool:
    """Print a row for each configuration; return whether all bits are equal."""
    print(f"| {epochs} epochs of | {before} | {after} | |")
    print("| --- | --- | --- | --- |")
    same = True
    with tempfile.TemporaryDirectory() as folder, taken_out(before, after) as trees:
        for number, (name, arguments) in enumerate(EXPERIMENTS.items()):
            runs = [
                _train(tree, Path(folder), f"{number}", data, epochs, arguments) for tree in trees
            ]
            for what, digest in (("state", state_digest), ("metrics", metrics_digest)):
                a, b = map(digest, runs)
                same &= a == b
                verdict = "equal" if a == b else "DIFFERENT"
                print(f"| {name}: {what} | {a[:16]} | {b[:16]} | {verdict} |", flush=True)
    return same


def state_digest(run: Path) -> str:
    """SHA-256 of the arrays of a run's latest checkpoint: their types, shapes and bytes."""
    steps = [path for path in (run / "checkpoints").iterdir() if path.is_dir()]
    latest = max(steps, key=lambda path: int(path.name))
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        arrays = map(np.asarray, jax.tree.leaves(checkpointer.restore(latest)))
    leaves = sorted(
        hashlib.sha256(f"{a.dtype} {a.shape} ".encode() + a.tobytes()).hexdigest() for a in arrays
    )
    return hashlib.sha256(" ".join(leaves).encode()).hexdigest()


def metrics_digest(run: Path) -> str:
    """SHA-256 of a run's metrics by name, without times."""
    with (run / "metrics.csv").open() as file:
        rows = [
            sorted((name, value) for name, value in row.items() if not name.endswith(TIMES))
            for row in csv.DictReader(file)
        ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


@contextmanager
def taken_out(*commits: str) -> Iterator[list[Path]]:
    """The trees of some commits."""
    with tempfile.TemporaryDirectory() as folder:
        trees = [Path(folder) / str(number) for number in range(len(commits))]
        try:
            for commit, tree in zip(commits, trees, strict=True):
                _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
            yield trees
        finally:
            for tree in trees:
                if tree.exists():
                    _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)  # noqa: S607


def _train(
    tree: Path, folder: Path, name: str, data: str, epochs: int, arguments: tuple[str, ...]
) -> Path:
    """Train by the code of a tree; return the run."""
    config, *rest = arguments
    runs = folder / tree.name
    command = [sys.executable, "-m", "vaectl", "train", str(tree / config), *rest]
    places = ["--name", name, "--runs-dir", str(runs), "--epochs", str(epochs), "--quiet"]
    source = [] if name == "0" else ["--set", f"data.source={data}"]
    subprocess.run(
        [*command, *places, *source],
        cwd=folder,  # `python -m` would take the code of a repository that it is started in
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return runs / name


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", nargs="?", default="HEAD~1")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--data", default="digits-5k", help="what stands in for the paper's MNIST")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    sys.exit(not main(options.before, options.after, options.data, options.epochs))
