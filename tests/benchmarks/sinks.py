"""What following a training costs: the same training with a sink and without, in pairs.

    python -m tests.benchmarks.sinks [--log tensorboard:images_every=10] [--epochs N] [--pairs N]
        [--data idx:DIR]

The two of a pair take turns in who is first. `epoch` is the median of a run; `whole` is from the
first step to the end of the run, with the wait for the sink; `processor` is the time of all threads
in that, which other processes of a busy machine change least. Exits with 1 if the median ratio of
processor times is above 1.01.
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
    processor: float


def _train(settings: config.Config, log: list[sinks.Sink], folder: str) -> Times:
    began = spent = 0.0

    def watch(event: events.Event) -> None:
        nonlocal began, spent
        if isinstance(event, events.Started):
            began, spent = time.perf_counter(), time.process_time()

    with follow(log, watch) as told:
        path = experiment.run(settings, runs_dir=Path(folder), watch=told).path
    whole, processor = time.perf_counter() - began, time.process_time() - spent
    seconds = [row.seconds for row in RunDir(path).read_metrics() if row.split == "train"]
    return Times(statistics.median(seconds[1:]), whole, processor)


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
    return statistics.median(a.processor / b.processor for a, b in pairs) <= MOST


if __name__ == "__main__":
    sys.exit(not main())
