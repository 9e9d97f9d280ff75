"""Options of the commands that draw, read and checked before anything slow is loaded."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from vaectl.base.errors import ConfigError, RunError
from vaectl.base.nearest import did_you_mean
from vaectl.runs import metrics
from vaectl.runs.directory import RunDir

FIGURES = ("png", "svg", "pdf")
"""Formats of figures, by the ending of a file."""
ANIMATIONS = ("gif", "mp4")
"""Formats of animations."""


class Range(NamedTuple):
    """The range of a plane: from `low` to `high` in each of its two dimensions.

    The default is that of three standard deviations of N(0, I).
    """

    low: tuple[float, float] = (-3.0, -3.0)
    high: tuple[float, float] = (3.0, 3.0)


NamedRange = Literal["prior", "posterior"]
NAMED_RANGES: tuple[NamedRange, ...] = get_args(NamedRange)


def check_files(
    out: Path | None, arrays: Path | None = None, *, animate: bool | None = False
) -> None:
    """Refuse files that cannot be written, before anything is computed.

    Args:
        out: a figure, or an animation.
        arrays: a file of NumPy arrays.
        animate: whether `out` is an animation; None if this command makes none.

    Raises:
        ConfigError: an ending is that of no format, or ffmpeg is missing.
    """
    if out is not None:
        kind = out.suffix.lower()[1:]
        known = ANIMATIONS if animate else FIGURES
        if kind not in known:
            near = did_you_mean(kind, known)
            raise ConfigError(
                f"--out {out}: not a format of {'animations' if animate else 'figures'}{near}",
                hint=f"end it in {_or(known)}" + _other(kind, animate=animate),
            )
        if kind == "mp4":
            ffmpeg()
    if arrays is not None and arrays.suffix != ".npz":
        raise ConfigError(f"--save-arrays {arrays}: not a NumPy archive", hint="end it in .npz")


def _or(endings: Sequence[str]) -> str:
    *first, last = (f".{each}" for each in endings)
    return f"{', '.join(first)} or {last}"


def _other(kind: str, *, animate: bool | None) -> str:
    """Say what makes a file of the other kind, if it has that ending."""
    if animate and kind in FIGURES:
        return "; without --animate it is a figure"
    return "; --animate makes an animation" if animate is False and kind in ANIMATIONS else ""


def ffmpeg() -> str:
    """Return the path of ffmpeg.

    Raises:
        ConfigError: it is not installed.
    """
    found = shutil.which("ffmpeg")
    if found is None:
        raise ConfigError(
            "an animation as MP4 needs ffmpeg, which is not installed",
            hint="install ffmpeg, or end --out in .gif",
        )
    return found


def parse_pairs(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Read pairs of indices written as I:J.

    Raises:
        ConfigError: a text has another form.
    """
    pairs = []
    for pair in texts:
        match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", pair)
        if match is None:
            raise ConfigError(
                f"--pairs {pair}: not two indices", hint="write I:J, for example --pairs 0:1"
            )
        pairs.append((int(match[1]), int(match[2])))
    return pairs


def parse_range(wanted: str) -> Range | NamedRange:
    """Read a range: `prior`, `posterior`, LIMIT, LOW,HIGH, or LOW,HIGH,LOW,HIGH.

    Raises:
        ConfigError: a text has another form, or a number is out of range.
    """
    for name in NAMED_RANGES:
        if wanted == name:
            return name
    try:
        numbers = [float(part) for part in wanted.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers = [-numbers[0], numbers[0]]
    if len(numbers) == 2:
        numbers *= 2
    ordered = len(numbers) == 4 and numbers[0] < numbers[1] and numbers[2] < numbers[3]
    if not ordered or not all(math.isfinite(n) and abs(n) <= 100 for n in numbers):
        near = did_you_mean(wanted, NAMED_RANGES)
        raise ConfigError(
            f"--range {wanted}: not a range between -100 and 100{near}",
            hint="write prior, posterior, a limit as 3, or LOW,HIGH as -2,4",
        )
    return Range((numbers[0], numbers[2]), (numbers[1], numbers[3]))


def check_dims(dims: tuple[int, int] | None) -> None:
    """Refuse a plane of one dimension.

    Raises:
        ConfigError: the two dimensions are the same, or one is negative.
    """
    if dims is None:
        return
    if dims[0] == dims[1]:
        raise ConfigError(
            f"--dims {dims[0]} {dims[1]}: a plane has two different dimensions",
            hint="choose two different dimensions",
        )
    if min(dims) < 0:
        raise ConfigError(f"--dims {min(dims)}: out of range", hint="dimensions count from 0")


def check_curves(runs: Sequence[RunDir], names: Sequence[str], first: int) -> None:
    """Refuse curves that the runs do not have.

    Args:
        runs: the runs.
        names: the numbers to draw.
        first: the first epoch to draw.

    Raises:
        ConfigError: no run has a number of that name, or all have fewer epochs.
        RunError: no run has any epoch, or the metrics of one are missing or broken.
    """
    rows = [row for run in runs for row in run.read_metrics()]
    if not rows:
        raise RunError(
            f"{', '.join(run.name for run in runs)}: no epochs to draw",
            hint="a run has curves once its first epoch has ended; an imported one has none",
        )
    known = metrics.columns(rows)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--term {name}: no curve of that name{did_you_mean(name, known)}",
                hint=f"choose of {', '.join(known)}",
            )
    most = max(row.epoch for row in rows)
    if first > most:
        raise ConfigError(f"--from {first}: the last epoch is {most}", hint="use a smaller number")
