"""How much faster a study of small members is in several processes than in one, in pairs.

    python -m tests.benchmarks.executors [EXECUTOR] [--members N] [--epochs N] [--set KEY=VALUE]

Compares Adam at N seeds on the embedded digits, by `local` and by an executor (processes:2 unless
named), in turn and in changing order, each as a command of its own with a warm cache of compiled
programs. Prints the seconds of whole commands and the median of the ratios of each pair.

    python -m tests.benchmarks.executors --gaps [EXECUTOR ...] [--members N]

Trains N members of one epoch, one after another, by each of some executors of one worker (local,
processes:1 and ray:workers=1 unless named). Prints how long the first takes to begin, and the
median time from the end of a member until the next one begins: on the way are its result, its trial
in the ledger, and the next job. They are of the tuning, which leave no runs.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import vaectl
from vaectl.base.errors import InterruptedRunError


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


def gaps(executors: list[str], members: int) -> None:
    """Print the times between members by each executor."""
    print("| executor | until the first begins, s | between members, ms | more than the first |")
    print("| --- | ---: | ---: | ---: |")
    least = None
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VAECTL_CACHE_DIR"] = f"{folder}/cache"
        _gaps("processes:1", 2, Path(folder) / "warm")  # fills the cache
        for number, each in enumerate(executors):
            first, between = _gaps(each, members, Path(folder) / str(number))
            least = between if least is None else least
            print(
                f"| {each} | {first:.1f} | {between * 1000:.0f} | {(between - least) * 1000:.0f} |",
                flush=True,
            )


def _gaps(executor: str, members: int, folder: Path) -> tuple[float, float]:
    from vaectl import executors
    from vaectl.comparison import plan
    from vaectl.comparison.run import run
    from vaectl.training.events import Event, Started, Stopped

    small = ("model.hidden_size=8", "model.code_size=2", "data.train_size=200")
    sizes = ("data.validation_size=60", "data.test_size=30", "batch_size=100", "epochs=1")
    options = {"protocol": "tuned", "optimizers": ["adam"], "tuning.seeds": members}
    options |= {"tuning.learning_rates": [1e-3]}
    settings = plan.load(assignments=[*small, *sizes], options=options)
    begun: list[float] = []
    ended: list[float] = []
    start = time.perf_counter()

    def watch(event: Event) -> None:
        if isinstance(event, Started):
            begun.append(time.perf_counter())
        if isinstance(event, Stopped):
            ended.append(time.perf_counter())
        if len(ended) == members:
            raise KeyboardInterrupt  # the test split is of no interest

    with contextlib.suppress(InterruptedRunError):
        run(
            settings,
            runs_dir=folder,
            name="c",
            executor=executors.parse(executor),
            watch=watch,
        )
    between = [b - a for a, b in zip(ended, begun[1:], strict=False)]
    return begun[0] - start, median(between)


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
    parser.add_argument("executor", nargs="*")
    parser.add_argument("--gaps", action="store_true")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    if options.gaps:
        gaps(options.executor or ["local", "processes:1", "ray:workers=1"], options.members)
    else:
        (executor,) = options.executor or ["processes:2"]
        main(executor, options.members, options.epochs, options.rounds, options.settings)
