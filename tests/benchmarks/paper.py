"""Runs under the paper's protocol beside the paper's Fig. 3, as a table.

    for optimizer in adam rmsprop adagrad sgd; do
        vaectl train configs/paper/z20.yaml --optimizer $optimizer --name paper-z20-$optimizer
    done
    python -m tests.benchmarks.paper runs/paper-z20-*

ELBO in nats per image, mean of the five epochs that end at the one named; the paper's in brackets.
Exits with 1 if a training value is further than 0.5 nats from the paper's, or a validation value
further than 0.7.
"""

import sys
from pathlib import Path

from vaectl import configfile
from vaectl.errors import VaectlError
from vaectl.rundir import RunDir

EPOCHS = (10, 50, 150)
TOLERANCE = {"train": 0.5, "validation": 0.7}
# read off the vector graphics of Fig. 3 of "Understanding Variational Auto-Encoder", z = 20
PAPER: dict[str, dict[str, tuple[float, ...]]] = {
    "adam": {"train": (-94.12, -81.94, -77.71), "validation": (-94.09, -84.94, -83.17)},
    "rmsprop": {"train": (-101.26, -86.40, -81.68), "validation": (-101.50, -88.69, -86.57)},
    "adagrad": {"train": (-108.31, -94.79, -88.32), "validation": (-107.71, -95.32, -89.51)},
    "sgd": {"train": (-119.22, -99.19, -89.43), "validation": (-117.80, -99.25, -90.35)},
}


def main(paths: list[str]) -> bool:
    """Print a row a run; return whether all are within tolerance."""
    heads = [f"{split}, {epoch}" for split in TOLERANCE for epoch in EPOCHS]
    print("| optimizer | " + " | ".join(heads) + " |")
    print("| --- |" + " ---: |" * len(heads))
    close = True
    order = list(PAPER)
    runs = [RunDir(Path(path)) for path in paths]
    named = {configfile.load(run.path / "config.yaml").optimizer.name: run for run in runs}
    for name in sorted(named, key=order.index):
        rows = named[name].read_metrics()
        values: dict[tuple[str, int], float] = {(row.split, row.epoch): row.elbo for row in rows}
        cells = []
        for split, tolerance in TOLERANCE.items():
            for epoch, paper in zip(EPOCHS, PAPER[name][split], strict=True):
                ours = sum(values[split, e] for e in range(epoch - 4, epoch + 1)) / 5
                close &= abs(ours - paper) <= tolerance
                cells.append(f"{ours:.2f} ({paper:.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")
    return close


if __name__ == "__main__":
    try:
        sys.exit(not main(sys.argv[1:]))
    except VaectlError as error:
        sys.exit(f"error: {error.message}")
    except KeyError as error:
        sys.exit(f"error: a run of 150 epochs is wanted; {error} is missing")
