"""What following a training costs: the same training with a sink and without, in pairs.

    python -m tests.benchmarks.sinks [--log tensorboard:images_every=10] [--epochs N] [--pairs N]
        [--data idx:DIR]

The two of a pair take turns in who is first. `epoch` is the median of a run's epochs. Other
processes of a busy machine change that by far more than a sink does, so the costs are counted too:
the processor time of the sink's thread, pictures included, and the time that the training spends on
telling it, as a share of all processor time of the run. Exits with 1 if that is above 1 %.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from vaectl import config, experiment, sinks
from vaectl.follow import follow
from vaectl.runs.directory import RunDir
from vaectl.sinks.base import Log, Results, Sink, Status, Training
from vaectl.training import events
from vaectl.training.fit import Epoch

MOST = 0.01


class _Timed(Sink):
    """A sink that says how much processor time its thread took, which lives for one run."""

    sink: Any
    spent: list[float] = []  # noqa: RUF012  # pydantic copies it

    @property
    def pictures_every(self) -> int | None:
        every: int | None = self.sink.pictures_every
        return every

    def draws(self, epoch: int, epochs: int) -> bool:
        return bool(self.sink.draws(epoch, epochs))

    def open(self, training: Training) -> Log:
        return _Log(self.sink.open(training), self.spent)


_Timed.name = "timed"


class _Log:
    def __init__(self, log: Log, spent: list[float]) -> None:
        self._log, self._spent = log, spent

    def write(self, results: Results) -> None:
        self._log.write(results)

    def close(self, status: Status) -> None:
        self._log.close(status)
        self._spent.append(time.thread_time())


class Times(NamedTuple):
    epoch: float
    processor: float
    sink: float


def _train(settings: config.Config, log: list[Sink], folder: str) -> Times:
    timed = [_Timed(sink=sink) for sink in log]
    telling = 0.0

    with follow(timed, events.ignore) as told:

        def watch(event: events.Event) -> None:
            nonlocal telling
            began = time.perf_counter()
            told(event)
            if isinstance(event, Epoch):
                telling += time.perf_counter() - began

        before = time.process_time()
        path = experiment.run(settings, runs_dir=Path(folder), watch=watch).path
    processor = time.process_time() - before
    seconds = [row.seconds for row in RunDir(path).read_metrics() if row.split == "train"]
    spent = sum(sum(sink.spent) for sink in timed)
    return Times(statistics.median(seconds[1:]), processor, spent + telling)


def main() -> bool:
    """Print the costs; return whether the limit is kept."""
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
    ratios, shares = [], []
    print("| pair | epoch with, s | without, s | ratio | the sink, of all processor time |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        _train(settings, [sink], folder)  # compiles
        for number in range(arguments.pairs):
            logs: tuple[list[Sink], ...] = ([], [sink]) if number % 2 else ([sink], [])
            times = {bool(log): _train(settings, log, folder) for log in logs}
            ours, theirs = times[True], times[False]
            ratios.append(ours.epoch / theirs.epoch)
            shares.append(ours.sink / ours.processor)
            row = f"| {number} | {ours.epoch:.4f} | {theirs.epoch:.4f} | {ratios[-1]:.3f} |"
            print(f"{row} {shares[-1]:.2%} |", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}, share {statistics.median(shares):.2%}")
    return statistics.median(shares) <= MOST


if __name__ == "__main__":
    sys.exit(not main())
