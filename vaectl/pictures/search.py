"""Figures of a search: the score of each learning rate, and the expected best of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from vaectl.objectives.base import label as label_of
from vaectl.pictures.canvas import Figure, handles_of, legend, legend_size, logarithmic, panels
from vaectl.pictures.style import DEFAULT, WIDTHS
from vaectl.pictures.traces import look_of, named


def sensitivity(
    tried: Mapping[str, Sequence[tuple[float, float | None]]],
    quantity: str,
    *,
    title: str,
) -> Figure:
    """Plot the mean best value of each learning rate on the validation split.

    A cross marks a learning rate at which a seed diverged; crosses at one rate stand above each
    other. Optimizers without a colour of their own are grey, have no names, and share one cross.

    Args:
        tried: pairs of learning rate and value, by optimizer.
        quantity: the name of the value.
        title: its heading.
    """
    with mpl.rc_context(DEFAULT.settings()):
        lost = ["a seed diverged"] if any(v is None for p in tried.values() for _, v in p) else []
        figure, axes = _panel(title, [*named([*tried]), *lost])
        settled: list[float] = []
        crosses: dict[float, list[str]] = {}
        for number, (label, points) in enumerate(tried.items()):
            look = look_of(number, label, len(tried), DEFAULT)
            known = [(rate, value) for rate, value in points if value is not None]
            if known:
                axes.plot(*zip(*known, strict=True), **look)
            settled += sorted(value for _, value in known)[len(known) // 2 :]
            for rate in (rate for rate, value in points if value is None):
                there = crosses.setdefault(rate, [])
                there += [look["color"]] * (look["color"] not in there)
        _cross(figure, axes, crosses)
        for label in lost:
            axes.plot([], [], color=DEFAULT.theme.ink, ls="", marker="x", label=label)
        low, high = min(settled, default=0.0), max(settled, default=0.0)
        lowest = low - max(3 * (high - low), 0.5 * abs(low))
        values = [value for points in tried.values() for _, value in points]
        far = [value for value in values if value is not None and value < lowest]
        if far:  # one very low value must not flatten the others
            axes.set_ylim(lowest, axes.get_ylim()[1])
        if rates := [rate for points in tried.values() for rate, _ in points]:
            logarithmic(axes, min(rates), max(rates))
        axes.set_xlabel("learning rate")
        cut = f"\ndown to {min(far):.4g}, below the axis" if far else ""
        axes.set_title(f"best validation {label_of(quantity)}{cut}", loc="left")
        axes.set_ylabel("nats per image")
        legend(figure, handles_of(axes))
    return figure


def _cross(figure: Figure, axes: Axes, crosses: Mapping[float, Sequence[str]]) -> None:
    """Draw crosses at each rate, one per colour, upwards from the axis: they have no value."""
    size = 0.75 * DEFAULT.theme.font
    for place in range(max(map(len, crosses.values()), default=0)):
        above = ScaledTranslation(0, place * size / 72, figure.dpi_scale_trans)
        for rate, colours in crosses.items():
            if place < len(colours):
                (cross,) = axes.plot(
                    *(rate, 0.0),
                    clip_on=False,
                    color=colours[place],
                    ls="",
                    marker="x",
                    ms=size,
                    transform=axes.get_xaxis_transform() + above,
                )
                cross.set_in_layout(False)


def budget(
    expected: Mapping[str, Sequence[float | None]],
    quantity: str,
    *,
    title: str,
) -> Figure:
    """Plot the expected best value of 1, 2, ... learning rates, drawn from those tried.

    Optimizers without a colour of their own are grey and have no names.

    Args:
        expected: the value for 1, 2, ... learning rates, by optimizer; None: not known.
        quantity: the name of the value.
        title: its heading.
    """
    with mpl.rc_context(DEFAULT.settings()):
        figure, axes = _panel(title, named([*expected]))
        for number, (label, values) in enumerate(expected.items()):
            axes.plot(
                range(1, len(values) + 1),
                [np.nan if value is None else value for value in values],
                **look_of(number, label, len(expected), DEFAULT),
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("points tried")
        axes.set_title(f"expected best validation {label_of(quantity)}", loc="left")
        axes.set_ylabel("nats per image")
        legend(figure, handles_of(axes))
    return figure


def _panel(title: str, labels: Sequence[str]) -> tuple[Figure, Axes]:
    """Make a figure of one panel with room for a legend below it."""
    wide = WIDTHS["column"]
    _, lines = legend_size(labels, "", DEFAULT, DEFAULT.width(wide))
    figure, (axes,), _ = panels(DEFAULT, title, [0.6], width=wide, below=lines)
    return figure, axes
