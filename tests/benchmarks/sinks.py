"""What following a training costs: the same training with a sink and without, in pairs.

    python -m tests.benchmarks.sinks [--log tensorboard:images_every=10] [--epochs N] [--pairs N]
        [--data idx:DIR]

The two of a pair take turns in who is first. Epochs are medians of each run; the whole is from the
first step to the end of the run, with the wait for the sink. Exits with 1 if the median ratio of
epochs is above 1.01.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from vaectl import config, experiment, sinks
from vaectl.follow import follow
from vaectl.runs.directory import RunDir
from vaectl.training import events

MOST = 1.01


class Times(NamedTuple):
    epoch: float
    whole: float


def _train(settings: config.Config, log: list[sinks.Sink], folder: str) -> Times:
    began = 0.0

    def watch(event: events.Event) -> None:
        nonlocal began
        if isinstance(event, events.Started):
            began = time.perf_counter()

    with follow(log, watch) as told:
        path = experiment.run(settings, runs_dir=Path(folder), watch=told).path
    whole = time.perf_counter() - began
    seconds = [row.seconds for row in RunDir(path).read_metrics() if row.split == "train"]
    return Times(statistics.median(seconds[1:]), whole)


def main() -> bool:
    """Print the ratios; return whether the limit is kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--log", default="tensorboard")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--data", default="digits-5k")
    arguments = parser.parse_args()
    sink = sinks.parse(arguments.log)
    settings = config.Config.model_validate(
        {"epochs": arguments.epochs, "data": {"source": arguments.data}}
    )
    pairs: list[tuple[Times, Times]] = []
    with tempfile.TemporaryDirectory() as folder:
        _train(settings, [sink], folder)  # compiles
        for number in range(arguments.pairs):
            logs = ([], [sink]) if number % 2 else ([sink], [])
            times = {bool(log): _train(settings, log, folder) for log in logs}
            pairs.append((times[True], times[False]))
    print("| seconds | with | without | median ratio | lowest | highest |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in Times._fields:
        ours, theirs = ([getattr(pair[i], name) for pair in pairs] for i in (0, 1))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        middles = f"{statistics.median(ours):.4f} | {statistics.median(theirs):.4f}"
        spread = f"{min(ratios):.3f} | {max(ratios):.3f}"
        print(f"| {name} | {middles} | {statistics.median(ratios):.3f} | {spread} |")
    return statistics.median(a.epoch / b.epoch for a, b in pairs) <= MOST


if __name__ == "__main__":
    sys.exit(not main())
