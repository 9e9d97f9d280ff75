"""Curves of runs and of comparisons, as in the paper's Fig. 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vaectl.objectives.base import label as label_of
from vaectl.pictures import text
from vaectl.pictures.canvas import Figure, in_legend, legend_size, logarithmic, panels
from vaectl.pictures.style import DEFAULT, Style
from vaectl.pictures.traces import (
    GREY,
    Trace,
    fitted,
    fitted_words,
    marker,
    others,
    quantities,
)

_FEW = 3
"""Epochs of which each one has a marker."""
_APART = 0.13
"""The least distance of two markers of a longer curve, in widths of its panel."""
_DECADE = 10
"""The ratio of times from which on their axis is logarithmic."""
_UNLIKE = 10
"""Curves of which one has so many times the epochs of another have a logarithmic axis."""


def curves(
    traces: Sequence[Trace],
    by: Literal["epoch", "seconds"] = "epoch",
    *,
    title: str,
    facts: str = "",
    style: Style = DEFAULT,
    names: Sequence[str] = (),
    how: Mapping[str, str] | None = None,
    first: int = 1,
    settled: bool = False,
) -> Figure:
    """Plot numbers side by side: ELBO, KL and NLL say, as in the paper's Fig. 3.

    Training is dashed, validation solid. Lines are means and bands are ranges over the seeds that
    reached the last epoch; each other one is a thin line up to where it ended, with a cross if it
    diverged. Traces of different kinds have panels of their own.

    Args:
        traces: what is compared; a single one without a label has no colour.
        by: the horizontal axis.
        title: the heading.
        facts: what the numbers mean, below the heading.
        style: the look.
        names: the numbers to draw; all of them if there are none.
        how: how each number is estimated.
        first: the first epoch that is drawn.
        settled: fit the axes of `fitted` numbers to the epochs after the first, steep tenth.
    """
    with mpl.rc_context(style.settings()):
        traces = [t._replace(place=i if t.place is None else t.place) for i, t in enumerate(traces)]
        chosen, how = list(names) or quantities(traces), how or {}
        kinds = list(dict.fromkeys(trace.kind for trace in traces)) or [""]
        width, font = 175.0 if len(kinds) * len(chosen) > 1 else 120.0, style.theme.font
        fits = fitted(traces) if settled else []
        note = _note(traces, [name for name in chosen if name in fits])
        note = text.wrapped(note, style.width(width) - 3 * font, 0.85 * font)
        named = [trace.name for trace in traces if not trace.grey]
        labels = ["train", "validation"] if _is_alone(traces) else named
        columns, lines = legend_size(labels, note, style, style.width(width))
        shapes = [0.55] * max(len(kinds) * len(chosen), 1)
        figure, axes_of, beside = panels(
            *(style, title, shapes), facts=facts, width=width, below=lines, rows=len(kinds)
        )
        room = 0.75 * style.width(width) / beside
        handles: dict[str, Artist] = {}
        every = [(kind, quantity) for kind in kinds for quantity in chosen]
        for number, (axes, (kind, quantity)) in enumerate(zip(axes_of, every, strict=False)):
            shown = [trace for trace in traces if trace.kind == kind]
            if not chosen or quantity not in quantities(shown):
                axes.remove()
                continue
            heading = ", ".join(filter(None, (label_of(quantity), how.get(quantity))))
            if len(kinds) > 1:
                heading += "\n" + text.wrapped(kind, room, font)
            axes.set_title(heading, loc="left")
            if number % beside == 0:
                axes.set_ylabel("nats per image")
            alone = _is_alone(traces)
            _draw(axes, shown, quantity, by, first, quantity in fits, style, alone=alone)
            found = axes.get_legend_handles_labels()
            handles |= {name: handle for handle, name in zip(*found, strict=True)}
        order = [name for name in labels if name in handles]
        figure.legend(
            [handles[name] for name in order],
            in_legend(order, style, style.width(width)),
            loc="outside lower center",
            ncols=columns,
            title=note or None,
        )
    return figure


def _is_alone(traces: Sequence[Trace]) -> bool:
    """Tell whether there is a single curve without a name, that of one run."""
    return len(traces) == 1 and not traces[0].label


def _note(traces: Sequence[Trace], fits: Sequence[str]) -> str:
    """Say what dashes, bands, thin lines, crosses and axes mean."""
    seeds = max((len(trace.seconds) for trace in traces), default=1)
    parts = [] if _is_alone(traces) else ["solid: validation, dashed: training"]
    early = seeds > 1 and any(trace.ended for trace in traces)
    if seeds > 1:
        only = " that reached the end" if early else ""
        parts.append(f"band: lowest to highest of {seeds} seeds{only}")
    if early:
        parts.append("thin: a seed that ended early")
    if grey := sum(trace.grey for trace in traces):
        parts.append(f"grey: {others(grey)}")
    if any(i in trace.ended for trace in traces for i in trace.diverged):
        what = "a seed diverged" if seeds > 1 else "training diverged"
        parts.append(f"cross: {what}, at the edge if beyond it")
    return "; ".join(filter(None, [*parts, fitted_words(fits)]))


def _draw(
    axes: Axes,
    traces: Sequence[Trace],
    quantity: str,
    by: Literal["epoch", "seconds"],
    first: int,
    settled: bool,
    style: Style,
    *,
    alone: bool,
) -> None:
    """Draw one number of all traces."""
    whole: list[np.ndarray] = []
    early: list[np.ndarray] = []
    crosses: list[tuple[float, float, str]] = []
    _horizontal(axes, [t for t in traces if quantity in quantities([t])], by, first)
    for trace in traces:
        if trace.grey:
            _grey(axes, trace, quantity, by, first, style)
            continue
        count, number = trace.epochs, trace.place or 0
        colour = style.theme.accent if alone else style.colour(number)
        rest = trace.whole
        if count < first or not (rest or alone):
            size = 0.45 * style.theme.font
            axes.plot([], [], color=colour, marker=marker(number), ms=size, label=trace.name)
        x = np.arange(1, count + 1) if by == "epoch" else trace.elapsed
        for split, dashes in (("train", (4, 2)), ("validation", ())):
            of_split: Mapping[str, np.ndarray] = getattr(trace, split)
            if quantity not in of_split or count < first:
                continue
            values = of_split[quantity]
            for i, end in trace.ended.items():
                kept = slice(first - 1, end)
                if alone:
                    _line(
                        *(axes, x[kept], values[i : i + 1, kept], number, trace, dashes),
                        *(colour, style),
                        alone=True,
                    )
                else:
                    wide = 0.5 * style.theme.line
                    axes.plot(x[kept], values[i, kept], color=colour, dashes=dashes, lw=wide)
                early.append(values[i, kept])
                if i in trace.diverged and not dashes and end >= first:
                    crosses.append((x[end - 1], values[i, end - 1], colour))
            if rest:
                kept = slice(first - 1, count)
                drawn = values[rest][:, kept]
                _line(axes, x[kept], drawn, number, trace, dashes, colour, style, alone=alone)
                start = drawn.shape[1] // 10 if settled else 0
                whole.append(drawn[:, start:].ravel())
    if early or settled or any(trace.grey for trace in traces):
        known = np.concatenate([*whole, []])
        _vertical(axes, known, np.concatenate([*early, []]), settled=settled)
    low, high = axes.get_ylim()
    for at, value, colour in crosses:
        size = 0.75 * style.theme.font
        at_edge = min(max(value, low), high)
        axes.plot(at, at_edge, color=colour, marker="x", ms=size, ls="", clip_on=False)


def _grey(
    axes: Axes,
    trace: Trace,
    quantity: str,
    by: Literal["epoch", "seconds"],
    first: int,
    style: Style,
) -> None:
    """Draw the validation mean of a trace that is one of many, over seeds that reached the end."""
    if quantity not in trace.validation or not trace.whole or trace.epochs < first:
        return
    kept = slice(first - 1, trace.epochs)
    x = np.arange(1, trace.epochs + 1) if by == "epoch" else trace.elapsed
    mean = trace.validation[quantity][trace.whole, kept].mean(axis=0)
    axes.plot(x[kept], mean, color=GREY, lw=0.5 * style.theme.line, zorder=1.5)


def _within(values: Float[np.ndarray, " values"]) -> tuple[float, float]:
    """Return the ends of values without leaps: as far beyond the middle 90 % as these are wide."""
    low, high = np.quantile(values, (0.05, 0.95))
    reach = high - low
    return float(max(values.min(), low - reach)), float(min(values.max(), high + reach))


def _vertical(
    axes: Axes,
    whole: Float[np.ndarray, " values"],
    early: Float[np.ndarray, " others"],
    *,
    settled: bool,
) -> None:
    """Fit the axis to the values of seeds that reached the end, and to others that are near.

    If they are settled, their own leaps are left out, too. The last values of one that diverged may
    be a million nats away, and would flatten all others.
    """
    whole, early = whole[np.isfinite(whole)], early[np.isfinite(early)]
    known = whole if len(whole) else early
    if not len(known):
        return
    if not len(whole):
        low, high = np.quantile(known, (0.1, 0.9))
    else:
        low, high = _within(whole) if settled else (whole.min(), whole.max())
    near = early[(early >= 2 * low - high) & (early <= 2 * high - low)]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)


def _horizontal(
    axes: Axes, traces: Sequence[Trace], by: Literal["epoch", "seconds"], first: int
) -> None:
    """Set the horizontal axis, before anything is drawn: what is marked depends on it."""
    drawn = [trace for trace in traces if trace.epochs >= first]
    lengths = [trace.epochs for trace in drawn] or [first]
    last = max(lengths)
    axes.set_xlabel("epoch" if by == "epoch" else "seconds of training")
    if by == "seconds" and drawn:
        times = [trace.elapsed[first - 1 :] for trace in drawn]
        low, high = min(each[0] for each in times), max(each[-1] for each in times)
        if high >= _DECADE * low:
            logarithmic(axes, low, high)
            return
        margin = 0.05 * (high - low) or 0.05 * high
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    elif last > _UNLIKE * min(lengths):  # a short curve would be a stroke at the edge
        logarithmic(axes, first, last)
    elif last == first:
        axes.set_xticks([first])
        axes.set_xlim(first - 0.5, first + 0.5)
    else:
        margin = 0.05 * (last - first)
        axes.set_xlim(first - margin, last + margin)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))


def _line(
    axes: Axes,
    x: Float[np.ndarray, " epochs"],
    values: Float[np.ndarray, "seeds epochs"],
    number: int,
    trace: Trace,
    dashes: tuple[int, ...],
    colour: str,
    style: Style,
    *,
    alone: bool,
) -> None:
    """Draw a mean and its band."""
    mean = values.mean(axis=0)
    label = ("train" if dashes else "validation") if alone else trace.name
    axes.plot(
        x,
        mean,
        color=colour,
        dashes=dashes,
        lw=(0.9 if dashes else 1.15) * style.theme.line,
        marker=marker(number) if not alone or len(x) <= _FEW else "",
        markevery=_marked(x, axes),
        ms=0.45 * style.theme.font,
        mfc=style.theme.paper if dashes else colour,
        mew=0.6 * style.theme.line,
        label=f"_{label}" if dashes and not alone else label,
    )
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def _marked(x: Float[np.ndarray, " epochs"], axes: Axes) -> list[int]:
    """Choose the points that have a marker: the first, and others at some distance from it."""
    low, high = axes.get_xlim()
    if axes.get_xscale() == "log":
        x, low, high = np.log(x), np.log(low), np.log(high)
    found = [0]
    for i in range(1, len(x)):
        if x[i] - x[found[-1]] >= _APART * (high - low) or len(x) <= _FEW:
            found.append(i)
    return found
