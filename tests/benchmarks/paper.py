"""A comparison under the paper's protocol beside the paper's Fig. 3, as two tables.

    vaectl compare-optimizers configs/compare/paper-z20.yaml
    python -m tests.benchmarks.paper runs/paper-z20

Or of the committed one: `python -m tests.benchmarks.paper runs/reference/paper-z20`.

In nats per image; ours is the mean over seeds. One epoch's value moves by about 0.3 nats to the
next, and in the first epochs by tens, so the second table has means of the five epochs that end at
the one named. Exits with 1 if of these one of training is further than 0.5 nats from the paper's,
or one of validation further than 0.7.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

EPOCHS = (1, 10, 50, 150)
# read off the vector graphics of Fig. 3 of "Understanding Variational Auto-Encoder", z = 20:
# (ELBO, KL, NLL) at these epochs
PAPER: dict[tuple[str, str], tuple[tuple[float, float, float], ...]] = {
    ("adam", "train"): (
        (-143.53, 21.97, 121.56),
        (-91.99, 28.85, 63.15),
        (-81.78, 30.84, 50.94),
        (-77.60, 31.81, 45.79),
    ),
    ("adam", "validation"): (
        (-113.18, 25.53, 87.65),
        (-92.15, 28.78, 63.38),
        (-84.71, 30.60, 54.11),
        (-82.92, 31.86, 51.06),
    ),
    ("rmsprop", "train"): (
        (-169.63, 18.35, 151.28),
        (-98.35, 27.96, 70.39),
        (-86.22, 30.18, 56.03),
        (-81.62, 30.98, 50.65),
    ),
    ("rmsprop", "validation"): (
        (-130.26, 22.25, 108.02),
        (-98.62, 28.18, 70.44),
        (-88.14, 29.98, 58.15),
        (-86.53, 31.17, 55.36),
    ),
    ("adagrad", "train"): (
        (-172.85, 17.80, 155.05),
        (-106.35, 26.72, 79.63),
        (-94.55, 28.37, 66.18),
        (-88.25, 29.00, 59.25),
    ),
    ("adagrad", "validation"): (
        (-138.77, 19.62, 119.16),
        (-106.17, 26.55, 79.62),
        (-95.07, 28.30, 66.77),
        (-89.48, 28.98, 60.49),
    ),
    ("sgd", "train"): (
        (-215.53, 12.24, 203.29),
        (-115.31, 24.49, 90.81),
        (-98.80, 27.73, 71.07),
        (-89.29, 28.87, 60.43),
    ),
    ("sgd", "validation"): (
        (-169.42, 14.05, 155.36),
        (-114.22, 24.33, 89.89),
        (-98.79, 27.63, 71.15),
        (-89.93, 28.70, 61.23),
    ),
}
SMOOTHED_EPOCHS = (10, 50, 150)
# ELBO, mean of the five epochs that end there
SMOOTHED: dict[tuple[str, str], tuple[float, float, float]] = {
    ("adam", "train"): (-94.12, -81.94, -77.71),
    ("adam", "validation"): (-94.09, -84.94, -83.17),
    ("rmsprop", "train"): (-101.26, -86.40, -81.68),
    ("rmsprop", "validation"): (-101.50, -88.69, -86.57),
    ("adagrad", "train"): (-108.31, -94.79, -88.32),
    ("adagrad", "validation"): (-107.71, -95.32, -89.51),
    ("sgd", "train"): (-119.22, -99.19, -89.43),
    ("sgd", "validation"): (-117.80, -99.25, -90.35),
}
TOLERANCE = {"train": 0.5, "validation": 0.7}
OPTIMIZERS = ("adam", "rmsprop", "adagrad", "sgd")

Curves = Mapping[str, Sequence[Mapping[str, str]]]
"""The rows of curves.csv of all seeds, by label."""


def main(path: Path) -> bool:
    """Print both tables; return whether all is within tolerance."""
    curves: dict[str, list[dict[str, str]]] = {}
    with (path / "trials.csv").open() as trials, (path / "curves.csv").open() as rows:
        labels = {trial["key"]: trial["label"] for trial in csv.DictReader(trials)}
        for row in csv.DictReader(rows):
            curves.setdefault(labels[row["key"]], []).append(row)
    _print_epochs(curves)
    print()
    return _print_smoothed(curves)


def _mean(curves: Curves, label: str, split: str, epoch: int, quantity: str) -> float:
    at = split, str(epoch)
    return fmean(
        float(row[quantity]) for row in curves[label] if (row["split"], row["epoch"]) == at
    )


def _print_epochs(curves: Curves) -> None:
    print(
        "| optimizer | epoch | train ELBO: paper | ours | difference | validation ELBO: paper "
        "| ours | difference | validation KL: paper | ours | validation NLL: paper | ours |"
    )
    print("| --- |" + " ---: |" * 11)
    for label in OPTIMIZERS:
        for number, epoch in enumerate(EPOCHS):
            cells = []
            for split in TOLERANCE:
                paper = PAPER[label, split][number][0]
                ours = _mean(curves, label, split, epoch, "elbo")
                cells += [f"{paper:.2f}", f"{ours:.2f}", f"{ours - paper:+.2f}"]
            _, *parts = PAPER[label, "validation"][number]
            for quantity, paper in zip(("kl", "nll"), parts, strict=True):
                ours = _mean(curves, label, "validation", epoch, quantity)
                cells += [f"{paper:.2f}", f"{ours:.2f}"]
            print(f"| {label} | {epoch} | " + " | ".join(cells) + " |")


def _print_smoothed(curves: Curves) -> bool:
    heads = [f"{split}, {epoch}" for split in TOLERANCE for epoch in SMOOTHED_EPOCHS]
    print("| optimizer | " + " | ".join(heads) + " |")
    print("| --- |" + " ---: |" * len(heads))
    close = True
    for label in OPTIMIZERS:
        cells = []
        for split, tolerance in TOLERANCE.items():
            for epoch, paper in zip(SMOOTHED_EPOCHS, SMOOTHED[label, split], strict=True):
                last_five = range(epoch - 4, epoch + 1)
                ours = fmean(_mean(curves, label, split, each, "elbo") for each in last_five)
                close &= abs(ours - paper) <= tolerance
                cells.append(f"{ours:.2f} ({paper:.2f})")
        print(f"| {label} | " + " | ".join(cells) + " |")
    return close


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.benchmarks.paper DIRECTORY_OF_A_COMPARISON")
    try:
        sys.exit(not main(Path(sys.argv[1])))
    except OSError as error:
        sys.exit(f"error: {error}")
    except (KeyError, ValueError) as error:
        sys.exit(f"error: the paper's four optimizers and 150 epochs are wanted: {error}")
