"""vaectl's training epoch beside the same work in other software, as a table.

    pip install --group peers .        (pip 25.1 or newer)
    python -m tests.benchmarks.peers
    python -m tests.benchmarks.peers --data idx:DIR --only vaectl,pytorch
    python -m tests.benchmarks.peers --device gpu        (all but pythae, which stays on the CPU)

The work: the VAE of configs/mnist-z20.yaml (784-500-20, tanh, Bernoulli decoder, analytic KL, one
sample), batches of 250 in a new order each epoch, Adam at 1e-3, initial weights of the same
variance, float32, on all CPU cores that the process may use. Validation is not timed, and no
checkpoints are written. The peers named after bfloat16 have products of matrices whose operands are
rounded to it, and validate in float32.

A round starts every peer in a process of its own, all from one new seed. The peers then take turns,
an epoch each, in an order that rotates, and wait while another trains. The first epoch warms up:
it may compile, and is not timed. A ratio is of two epochs of one turn, a few seconds apart.

Epochs during which other programs took more than a twentieth of the cores are left out of the
times, for they hit some harder than others: PyTorch's OpenMP threads spin while they wait for each
other, and a busy neighbour on two cores makes an epoch 25 times as long, vaectl's 1.6 times.
OMP_WAIT_POLICY=PASSIVE spares it that, and costs it half as much again on a quiet machine, so that
it is left to the environment. Linux only, which tells what others take.

Exits with 1 if a peer's validation ELBO is further than 1 nat from vaectl's: the work was not the
same; or if no turn was quiet.
"""

import os
import platform
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import metadata, util
from pathlib import Path
from typing import Annotated, Literal

import typer

from tests.benchmarks.peers.worker import PLACE, Turn, started
from vaectl import config, data
from vaectl.base.errors import VaectlError
from vaectl.config import reading

PEERS = {
    "vaectl": "jax",
    "vaectl_bfloat16": "jax",
    "pytorch": "torch",
    "pytorch_compiled": "torch",
    "pytorch_bfloat16": "torch",
    "pytorch_bfloat16_compiled": "torch",
    "pytorch_example": "torch",
    "pythae": "pythae",
}
"""A module of this package, and the package that it needs."""
BASES = ("vaectl", "vaectl_bfloat16")
"""The peers by whose times those of all are divided."""
TOLERANCE = 1.0
WORK = Path(__file__).parents[3] / "configs" / "mnist-z20.yaml"


def main(
    source: Annotated[str, typer.Option("--data", help="As data.source.")] = "tfds:mnist",
    epochs: Annotated[int, typer.Option(min=1, help="Timed, after one that warms up.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh starts, each from a new seed.")] = 3,
    only: Annotated[str, typer.Option(help="Peers, separated by commas.")] = ",".join(PEERS),
    device: Annotated[Literal["cpu", "gpu"], typer.Option(help="Where they compute.")] = "cpu",
) -> None:
    """Time an epoch of vaectl and of its peers, and print a table."""
    names = list(installed(only))
    asked = [f"data.source={source}", f"epochs={1 + epochs}"]
    settings = reading.load(WORK, assignments=asked)
    dataset = data.load(settings.data)
    cores = len(os.sched_getaffinity(0))
    # XLA takes every core that it may; OpenMP, under PyTorch, is told to
    platforms = "cuda,cpu" if device == "gpu" else "cpu"
    os.environ |= {"JAX_PLATFORMS": platforms, "OMP_NUM_THREADS": str(cores), PLACE: device}
    runs: dict[str, list[list[Turn]]] = {name: [] for name in names}
    for seed in range(rounds):
        print(f"round {seed + 1} of {rounds}", file=sys.stderr)
        of_seed = settings.model_copy(update={"seed": seed})
        for name, run in race(names, of_seed, dataset).items():
            runs[name].append(run)
    close = report(runs)
    print(f"\n{versions(names)}\n{processor()}, {cores} cores")
    raise typer.Exit(not close)


def installed(only: str) -> Iterator[str]:
    """The peers that are asked for and can run; always vaectl, which the others are set against."""
    asked = {*BASES, *only.split(",")}
    if unknown := asked - PEERS.keys():
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: known are {', '.join(PEERS)}")
    for name in (name for name in PEERS if name in asked):
        if util.find_spec(PEERS[name]):
            yield name
        else:
            print(f"{name} is left out: {PEERS[name]} is not installed", file=sys.stderr)


def race(names: list[str], settings: config.Config, dataset: data.Dataset) -> dict[str, list[Turn]]:
    """Train every peer from one seed, an epoch at a time in turns."""
    run: dict[str, list[Turn]] = {name: [] for name in names}
    with ExitStack() as stack:
        peers = {n: stack.enter_context(started(n, settings, dataset)) for n in names}
        for epoch in range(settings.epochs):
            first = (settings.seed + epoch) % len(names)
            for name in names[first:] + names[:first]:
                run[name].append(peers[name]())
    return run


def report(runs: dict[str, list[list[Turn]]]) -> bool:
    """Print a row a peer; return whether all did vaectl's work, and could be timed."""
    epochs = len(runs[BASES[0]][0])
    against = (f"times {name}'s" for name in BASES)
    heads = ("peer", "seconds per epoch", *against, "quiet turns")
    print("| " + " | ".join(heads) + f" | validation ELBO, epoch {epochs} |")
    print("| --- |" + " ---: |" * len(heads))
    turns = {name: [turn for run in rounds for turn in run[1:]] for name, rounds in runs.items()}
    elbos = {
        name: statistics.mean(run[-1].epoch.elbo for run in rounds) for name, rounds in runs.items()
    }
    good = True
    for name, own in turns.items():
        quiet = [turn.epoch.seconds for turn in own if turn.quiet]
        seconds = f"{statistics.median(quiet):.3f}" if quiet else "never quiet"
        ratios = " | ".join(ratio(own, turns[base]) for base in BASES)
        good &= bool(quiet) and abs(elbos[name] - elbos[BASES[0]]) <= TOLERANCE
        counted = f"{len(quiet)} of {len(own)} | {elbos[name]:.2f}"
        print(f"| {name} | {seconds} | {ratios} | {counted} |")
    return good


def ratio(theirs: list[Turn], ours: list[Turn]) -> str:
    """Median, least and greatest ratio of the seconds of two peers, over turns quiet for both."""
    ratios = [
        one.epoch.seconds / other.epoch.seconds
        for one, other in zip(theirs, ours, strict=True)
        if one.quiet and other.quiet
    ]
    if not ratios:
        return "never quiet"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def versions(names: list[str]) -> str:
    packages = dict.fromkeys(["vaectl", "jaxlib", *(PEERS[name] for name in names)])
    return f"Python {platform.python_version()}, " + ", ".join(
        f"{package} {metadata.version(package)}" for package in packages
    )


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())  # ARM names no model


if __name__ == "__main__":
    try:
        typer.run(main)
    except VaectlError as error:
        sys.exit(f"error: {error.message}")
