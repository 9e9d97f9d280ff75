"""How much faster a study of small members is in several processes than in one, in pairs.

    python -m tests.benchmarks.executors [EXECUTOR] [--members N] [--epochs N] [--set KEY=VALUE]

Compares Adam at N seeds on the embedded digits, by `local` and by an executor (processes:2 unless
named), in turn and in changing order, each as a command of its own with a warm cache of compiled
programs. Prints the seconds of whole commands and the median of the ratios of each pair.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import vaectl


def main(executor: str, members: int, epochs: int, rounds: int, settings: list[str]) -> None:
    """Print the seconds of each pair, and the median ratio."""
    ratios = []
    print(f"| round | local, s | {executor}, s | times as fast |")
    print("| ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-1, rounds):  # the first pair only fills the cache
            order = ("local", executor) if number % 2 else (executor, "local")
            seconds = {
                each: _seconds(each, Path(folder), members, epochs, settings) for each in order
            }
            if number >= 0:
                ratios.append(seconds["local"] / seconds[executor])
                local, other = seconds["local"], seconds[executor]
                print(
                    f"| {number + 1} | {local:.1f} | {other:.1f} | {ratios[-1]:.2f} |", flush=True
                )
    print(f"median: {median(ratios):.2f} times as fast, {members} members of {epochs} epochs")


def _seconds(executor: str, folder: Path, members: int, epochs: int, settings: list[str]) -> float:
    arguments = (
        *("compare-optimizers", "--protocol", "paper", "--optimizers", "adam"),
        *("--seeds", str(members), "--epochs", str(epochs), "--executor", executor),
        *("--name", "c", "--force", "--quiet", *(f"--set={each}" for each in settings)),
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(vaectl.__file__).parent.parent),
        "VAECTL_CACHE_DIR": str(folder / "cache"),
    }
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "vaectl", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("executor", nargs="?", default="processes:2")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    arguments = options.executor, options.members, options.epochs, options.rounds
    main(*arguments, options.settings)
