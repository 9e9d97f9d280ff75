"""The curves of runs as arrays, and the colours and markers that tell many lines apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Float
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from vaectl.base.plural import plural
from vaectl.objectives.base import label as label_of
from vaectl.pictures.style import Style
from vaectl.runs import metrics
from vaectl.runs.metrics import Row

_MARKERS = "os^Dv*PX<>p"  # one more than colours, so that the pairs repeat only after 110
COLOURS = 10
"""The most lines that are told apart by their colours."""
GREY = "#8c8c8c"


def marker(number: int) -> str:
    """Return the marker of a trace, by its place."""
    return _MARKERS[number % len(_MARKERS)]


def outline(number: int) -> str:
    """Return the same marker as the path of an SVG, about one unit wide around the origin."""
    shape = MarkerStyle(marker(number))
    # an SVG counts downwards
    path = shape.get_path().transformed(shape.get_transform() + Affine2D().scale(1, -1))
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}
    parts = []
    for points, code in path.iter_segments(simplify=False):
        if code == Path.CLOSEPOLY:
            parts.append("Z")
        else:
            parts.append(letters[code] + " ".join(f"{each:.3f}" for each in points))
    return "".join(parts)


class Trace(NamedTuple):
    """The curves of a run, or of an optimizer with a row per seed; NaN after a seed ended."""

    label: str
    seconds: Float[np.ndarray, "seeds epochs"]
    """Seconds of training since its start."""
    train: Mapping[str, Float[np.ndarray, "seeds epochs"]]
    validation: Mapping[str, Float[np.ndarray, "seeds epochs"]]
    diverged: tuple[int, ...] = ()
    """The rows of seeds that diverged."""
    kind: str = ""
    """The kind of the numbers. Those of different kinds do not compare, and share no axis."""
    place: int | None = None
    """The place of its colour and its marker; None: its own among the traces."""
    grey: bool = False
    """True if it is a thin, grey line behind the others: its validation mean, without a name."""

    @classmethod
    def of(cls, label: str, runs: Sequence[Sequence[Row]], diverged: Sequence[bool] = ()) -> Self:
        """Collect the rows of runs that differ in their seed, each with all rows of a run.

        Args:
            label: what they have in common.
            runs: the rows of each.
            diverged: whether it diverged; none did if this is empty.
        """
        epochs = max((row.epoch for rows in runs for row in rows), default=0)

        def stacked(split: str, column: str) -> Float[np.ndarray, "seeds epochs"]:
            values = np.full((len(runs), epochs), np.nan)
            for number, rows in enumerate(runs):
                for row in rows:
                    if row.split == split:
                        values[number, row.epoch - 1] = row.flat().get(column, np.nan)
            return values

        def numbers(split: str) -> dict[str, Float[np.ndarray, "seeds epochs"]]:
            known = metrics.columns([row for rows in runs for row in rows if row.split == split])
            return {name: stacked(split, name) for name in known}

        seconds = stacked("train", "seconds").cumsum(axis=1)
        lost = tuple(number for number, each in enumerate(diverged) if each)
        return cls(label, seconds, numbers("train"), numbers("validation"), lost)

    @property
    def name(self) -> str:
        """The label, and the number of seeds that remain if some diverged."""
        lost, seeds = len(self.diverged), len(self.seconds)
        if not lost:
            return self.label
        all_lost = "diverged" if seeds == 1 else f"all {seeds} seeds diverged"
        left = f"{seeds - lost} of {seeds} seeds remain" if lost < seeds else all_lost
        return f"{self.label} ({left})".strip()

    @property
    def whole(self) -> list[int]:
        """The rows of seeds that reached the last epoch; those that diverged did not."""
        ends = np.isfinite(self.seconds).sum(axis=1)
        return [i for i, end in enumerate(ends) if end == self.epochs and i not in self.diverged]

    @property
    def ended(self) -> dict[int, int]:
        """The number of epochs of all other seeds that have any, by row."""
        ends = np.isfinite(self.seconds).sum(axis=1)
        return {i: int(end) for i, end in enumerate(ends) if end and i not in self.whole}

    @property
    def epochs(self) -> int:
        """The number of epochs that at least one seed reached."""
        return int(np.isfinite(self.seconds).any(axis=0).sum())

    @property
    def elapsed(self) -> Float[np.ndarray, " epochs"]:
        """Seconds since the start; each epoch counts as its mean over the seeds that reached it."""
        each = np.diff(self.seconds[:, : self.epochs], axis=1, prepend=0.0)
        elapsed: Float[np.ndarray, " epochs"] = np.nanmean(each, axis=0).cumsum()
        return elapsed


def quantities(traces: Sequence[Trace]) -> list[str]:
    """Name the numbers that any of the traces has, in their order."""
    return list(dict.fromkeys(name for t in traces for name in (*t.train, *t.validation)))


def axis_label(name: str) -> str:
    """Write the name of a number and its unit; terms are in nats."""
    return f"{label_of(name)} (nats per image)"


def fitted(traces: Sequence[Trace]) -> list[str]:
    """Name the numbers whose axes are fitted to what follows the first tenth of the epochs.

    All but the KL, which begins low; none if there are fewer epochs than ten.
    """
    long = max((trace.epochs for trace in traces), default=0) >= 10
    return [name for name in quantities(traces) if name != "kl"] if long else []


def fitted_words(names: Sequence[str]) -> str:
    """Say that the axes of some numbers are fitted; nothing of no numbers."""
    labels = " and ".join(map(label_of, names))
    return f"axes of {labels} fitted to what follows the first tenth" if labels else ""


def named(labels: Sequence[str]) -> list[str]:
    """Return the labels that appear in the legend if there are many lines."""
    more = len(labels) - COLOURS
    return [*labels[:COLOURS], *([others(more)] if more > 0 else [])]


def others(count: int) -> str:
    """Name the lines that have no names of their own."""
    return f"{plural(count, 'other')}"


def look_of(number: int, label: str, count: int, style: Style) -> dict[str, Any]:
    """Return the look of one of many lines: its colour and marker, or grey after the colours."""
    if number < COLOURS:
        look = {"color": style.colour(number), "marker": marker(number), "label": label}
        return {**look, "ms": 0.5 * style.theme.font}
    label = others(count - COLOURS) if number == COLOURS else "_"
    return {"color": GREY, "lw": 0.5 * style.theme.line, "label": label, "zorder": 1.5}
