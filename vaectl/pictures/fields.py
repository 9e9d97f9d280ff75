"""Figures of many optimizers: a board, ranks along the budget, and performance profiles.

Many lines cannot be told apart by colours, and a legend would be far away. So a board has a row for
each optimizer; lines have their names at their ends, and only the best few are in colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vaectl.objectives.base import label as label_of
from vaectl.pictures.canvas import Figure, panels, rows_of
from vaectl.pictures.style import DEFAULT, WIDTHS, Style
from vaectl.pictures.traces import GREY, marker

COLOURED = 5
"""The number of lines in colour; the others are grey."""
_WIDE = WIDTHS["column"]
"""The width in millimetres, narrow enough that text stays readable on a phone."""


class Bar(NamedTuple):
    """A row of a board."""

    label: str
    mean: float
    low: float | None
    high: float | None
    seeds: Sequence[float]

    def beyond(self, left: float, right: float) -> tuple[bool, bool]:
        """Tell at which ends the interval goes beyond an axis."""
        low, high = self.low, self.high
        return low is not None and low < left, high is not None and high > right


def board(
    bars: Sequence[Bar], quantity: str, *, title: str, facts: str = "", style: Style = DEFAULT
) -> Figure:
    """Plot the best value of each optimizer with its interval, the best one on top.

    Values far below the others are outside the axis: an arrow and a number show them. An arrow also
    shows an interval that goes beyond the axis.

    Args:
        bars: the rows, the best first.
        quantity: the name of the value.
        title: the heading.
        facts: what the numbers mean, below the heading.
        style: the look.
    """
    with mpl.rc_context(style.settings()):
        font = style.theme.font
        names = rows_of([bar.label for bar in bars], style, _WIDE)
        values = np.array([value for bar in bars for value in bar.seeds])
        low = _floor(values)
        left, right = _ends(bars, values, low)
        cut = "\narrow: an interval goes on" * any(any(bar.beyond(left, right)) for bar in bars)
        what = names.beside(f"nats per image:\nmean, 95% interval and seeds{cut}")
        span = sum(names.heights)
        shape = max(1.8 * font * (span + 2) / style.width(_WIDE), 0.25)
        figure, (axes,), _ = panels(
            style, title, [shape], facts=facts, width=_WIDE, below=what.count("\n")
        )
        places = (np.cumsum(names.heights) - 0.5 * (np.array(names.heights) + 1)).tolist()
        for bar, row in zip(bars, places, strict=True):
            colour = style.theme.accent if bar is bars[0] else style.theme.ink
            if bar.mean < low:
                axes.text(
                    *(0.01, row, f"\N{LEFTWARDS ARROW} {bar.mean:.1f}"),
                    transform=axes.get_yaxis_transform(),
                    va="center",
                    fontsize=style.small,
                )
                continue
            if bar.low is not None and bar.high is not None:
                axes.hlines(row, bar.low, bar.high, color=colour)
            for end, arrow, more in zip((left, right), "<>", bar.beyond(left, right), strict=True):
                if more:
                    axes.plot(end, row, marker=arrow, ms=0.5 * font, color=colour, clip_on=False)
            shown = [value for value in bar.seeds if value >= low]
            axes.plot(shown, [row] * len(shown), ls="", marker="|", ms=0.7 * font, color=colour)
            axes.plot(bar.mean, row, marker="o", ms=0.6 * font, color=colour)
        axes.set_yticks(places, names.labels)
        axes.set_ylim(span - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(left, right)
        axes.set_title(names.beside(f"best validation {label_of(quantity)}"), loc="left")
        axes.set_xlabel(what)
    return figure


def along(
    ranks: Mapping[str, Float[np.ndarray, " epochs"]],
    order: Sequence[str],
    places: Mapping[str, int] | None = None,
    *,
    title: str,
    facts: str = "",
    style: Style = DEFAULT,
) -> Figure:
    """Plot the mean rank of the best value up to each epoch; 1 is the best.

    Args:
        ranks: of each optimizer after each epoch.
        order: the labels, the best at the end first.
        places: those of their colours and markers; by default that order.
        title: the heading.
        facts: what the numbers mean, below the heading.
        style: the look.
    """
    epochs = len(next(iter(ranks.values())))
    lines = {label: (np.arange(1, epochs + 1), ranks[label]) for label in order if label in ranks}
    with mpl.rc_context(style.settings()):
        figure, axes = _lines(lines, places, title, facts, style)
        axes.set_ylim(len(ranks) + 0.5, 0.5)
        axes.set_xlim(1 - 0.02 * epochs, epochs)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("mean rank if training had ended there, 1 is the best", loc="left")
        axes.set_xlabel("epoch")
    return figure


def profile(
    profiles: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    order: Sequence[str],
    *,
    title: str,
    facts: str = "",
    style: Style = DEFAULT,
) -> Figure:
    """Plot the part of the workloads on which each optimizer is within a factor of the fastest.

    Args:
        profiles: factors and parts, at the corners of the steps, by optimizer.
        order: the labels, the best first.
        title: the heading.
        facts: what the numbers mean, below the heading.
        style: the look.
    """
    lines = {
        label: (np.asarray(profiles[label][0]), np.asarray(profiles[label][1]))
        for label in order
        if label in profiles
    }
    with mpl.rc_context(style.settings()):
        figure, axes = _lines(lines, None, title, facts, style, steps=True)
        axes.set_xscale("log")
        ends = [line[0][-1] for line in lines.values()]
        axes.set_xlim(1, max(ends))
        ticks = [tick for tick in (1, 1.5, 2, 3, 4, 6, 8) if tick <= max(ends)]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_ylim(-0.02, 1.04)
        axes.set_title("part of the workloads, within a factor of the fastest", loc="left")
        axes.set_xlabel("steps to the target,\nrelative to the fastest optimizer's")
    return figure


def _lines(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    places: Mapping[str, int] | None,
    title: str,
    facts: str,
    style: Style,
    *,
    steps: bool = False,
) -> tuple[Figure, Axes]:
    """Draw lines whose names stand at their ends, the first few in colour.

    Steps may end at one height: they have markers where they rise, and beside their names.
    """
    names = rows_of([*lines], style, _WIDE)
    high = max(0.6, 1.5 * style.small * max(names.heights) * len(lines) / style.width(_WIDE))
    figure, (axes,), _ = panels(style, title, [high], facts=facts, width=_WIDE)
    ends = _spread([float(y[-1]) * (-1 if steps else 1) for _, y in lines.values()])
    for place, (label, (x, y)) in reversed([*enumerate(lines.items())]):
        first = place < COLOURED
        number = places[label] if places else place
        colour = style.colour(number) if first else GREY
        look: dict[str, Any] = {"color": colour, "ms": 0.45 * style.theme.font}
        look["marker"] = marker(number) if first or steps else ""
        axes.plot(
            *(x, y),
            **look,
            drawstyle="steps-post" if steps else "default",
            linewidth=(1.0 if first else 0.5) * style.theme.line,
            markevery=_rises(y) if steps else max(len(x) // 8, 1),
            clip_on=not first,  # whole markers at the end
        )
        if steps:
            axes.plot(1.04, ends[place], **look, clip_on=False, transform=axes.transAxes)
        arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.4, "shrinkB": 0}
        axes.annotate(
            names.labels[place],
            (1.0, y[-1]),
            xycoords=("axes fraction", "data"),
            xytext=(1.08, ends[place]),
            textcoords="axes fraction",
            va="center",
            fontsize=style.small,
            color=colour if first else style.theme.ink,
            arrowprops=None if steps else arrow,
            annotation_clip=False,
        )
    return figure, axes


def _rises(values: Float[np.ndarray, " corners"]) -> list[int]:
    """Return where a line of steps rises; its start, if it begins above 0, is one of them."""
    return np.flatnonzero(np.diff(values, prepend=0.0) > 0).tolist()


def _spread(values: Sequence[float]) -> list[float]:
    """Return heights of names, in axes: evenly, in the order of the values, the least on top."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    count = len(values)
    return [1 - (place + 0.5) / count for place in order.tolist()]


def _floor(values: Float[np.ndarray, " values"]) -> float:
    """Return the lower limit of the axis; far lower values would flatten the others."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0
    low, middle, top = np.quantile(finite, (0.25, 0.5, 1.0))
    spread = max(top - middle, 0.03 * abs(top))
    return float(min(low, middle - 2 * spread) - 2 * spread)


def _ends(
    bars: Sequence[Bar], values: Float[np.ndarray, " values"], low: float
) -> tuple[float, float]:
    """Return the limits of the axis; very wide intervals may exceed them."""
    shown = [bar for bar in bars if bar.mean >= low]
    top = values.max(initial=low)
    left = min([top, *(bar.mean if bar.low is None else bar.low for bar in shown)])
    right = max([top, *(bar.mean if bar.high is None else bar.high for bar in shown)])
    left, right = max(left, low), min(right, top + 0.25 * (top - low))
    margin = 0.04 * (right - left) or 1.0
    return left - margin, right + margin
