"""Curves of runs and of comparisons, as in the paper's Fig. 3."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vaectl.objectives.base import label as label_of
from vaectl.pictures import text
from vaectl.pictures.canvas import (
    Figure,
    handles_of,
    legend,
    legend_size,
    logarithmic,
    panels,
)
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
"""The most epochs of a curve with a marker at each epoch."""
_APART = 0.13
"""The least distance of two markers of a longer curve, in widths of its panel."""
_DECADE = 10
"""The ratio of two times from which their axis is logarithmic."""
_UNLIKE = 10
"""The ratio of the numbers of epochs of two curves from which their axis is logarithmic."""


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
    reached the last epoch; every other seed is a thin line up to its end, with a cross if it
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
        _, lines = legend_size(labels, note, style, style.width(width))
        shapes = [0.55] * max(len(kinds) * len(chosen), 1)
        figure, axes_of, beside = panels(
            *(style, title, shapes), facts=facts, width=width, below=lines, rows=len(kinds)
        )
        room = 0.75 * style.width(width) / beside
        handles: dict[str, Artist] = {}
        rows: set[int] = set()
        every = itertools.product(kinds, chosen)
        for number, (axes, (kind, quantity)) in enumerate(zip(axes_of, every, strict=False)):
            shown = [trace for trace in traces if trace.kind == kind]
            if quantity not in quantities(shown):
                axes.remove()
                continue
            heading = ", ".join(filter(None, (label_of(quantity), how.get(quantity))))
            heading = text.wrapped(heading, room, font)
            if len(kinds) > 1:
                heading += "\n" + text.wrapped(kind, room, font)
            axes.set_title(heading, loc="left")
            if number // beside not in rows:
                axes.set_ylabel("nats per image")
                rows.add(number // beside)
            fitted_here, alone = quantity in fits, _is_alone(traces)
            _Panel(axes, quantity, by, first, fitted_here, style, alone).draw(shown)
            handles |= handles_of(axes)
        legend(figure, {name: handles[name] for name in labels if name in handles}, note)
    return figure


def _is_alone(traces: Sequence[Trace]) -> bool:
    """Tell whether there is a single curve without a name, that of one run."""
    return len(traces) == 1 and not traces[0].label


def _note(traces: Sequence[Trace], fits: Sequence[str]) -> str:
    """Say what dashes, bands, thin lines, crosses and axes mean."""
    named = [trace for trace in traces if not trace.grey]
    seeds = max((len(trace.seconds) for trace in named), default=1)
    parts = [] if _is_alone(traces) else ["solid: validation, dashed: training"]
    early = seeds > 1 and any(trace.ended for trace in named)
    if seeds > 1:
        only = " that reached the end" if early else ""
        parts.append(f"band: lowest to highest of {seeds} seeds{only}")
    if early:
        parts.append("thin: a seed that ended early")
    if grey := len(traces) - len(named):
        parts.append(f"grey: {others(grey)}")
    if any(i in trace.ended for trace in named for i in trace.diverged):
        what = "a seed diverged" if seeds > 1 else "training diverged"
        parts.append(f"cross: {what}, at the edge if beyond it")
    return "; ".join(filter(None, [*parts, fitted_words(fits)]))


class _Panel(NamedTuple):
    """Axes in which one number of several traces is drawn."""

    axes: Axes
    quantity: str
    by: Literal["epoch", "seconds"]
    first: int
    """The first epoch that is drawn."""
    settled: bool
    """True if the axis fits what follows the first, steep tenth of the epochs."""
    style: Style
    alone: bool
    """True if there is a single curve without a name, that of one run."""

    def draw(self, traces: Sequence[Trace]) -> None:
        """Draw all traces, then fit the axis to them and add the crosses of those that diverged."""
        whole: list[np.ndarray] = []
        early: list[np.ndarray] = []
        _horizontal(
            self.axes, [t for t in traces if self.quantity in quantities([t])], self.by, self.first
        )
        for trace in traces:
            if trace.grey:
                self._grey(trace)
                continue
            self._key(trace)
            for values, dashes in self._splits(trace):
                early += self._early(trace, values, dashes)
                whole += self._band(trace, values, dashes)
        if early or self.settled or any(trace.grey for trace in traces):
            known = np.concatenate([*whole, []])
            _vertical(self.axes, known, np.concatenate([*early, []]), settled=self.settled)
        for trace in traces:
            self._crosses(trace)

    def _x(self, trace: Trace) -> Float[np.ndarray, " epochs"]:
        return np.arange(1.0, trace.epochs + 1) if self.by == "epoch" else trace.elapsed

    def _colour(self, trace: Trace) -> str:
        return self.style.theme.accent if self.alone else self.style.colour(trace.place or 0)

    def _splits(
        self, trace: Trace
    ) -> Iterator[tuple[Float[np.ndarray, "seeds epochs"], tuple[int, ...]]]:
        """Yield the numbers of each split that has them, and the dashes of its lines."""
        for values, dashes in ((trace.train, (4, 2)), (trace.validation, ())):
            if self.quantity in values and trace.epochs >= self.first:
                yield values[self.quantity], dashes

    def _key(self, trace: Trace) -> None:
        """Add an entry of the legend for a trace without a mean."""
        if trace.epochs < self.first or not (trace.whole or self.alone):
            self.axes.plot(
                *([], []),
                color=self._colour(trace),
                marker=marker(trace.place or 0),
                ms=0.45 * self.style.theme.font,
                label=trace.name,
            )

    def _band(
        self, trace: Trace, values: Float[np.ndarray, "seeds epochs"], dashes: tuple[int, ...]
    ) -> list[np.ndarray]:
        """Draw the seeds that reached the end; return what of them the axis fits."""
        if not trace.whole:
            return []
        kept = slice(self.first - 1, trace.epochs)
        drawn = values[trace.whole][:, kept]
        self._line(trace, self._x(trace)[kept], drawn, dashes)
        return [drawn[:, drawn.shape[1] // 10 if self.settled else 0 :].ravel()]

    def _early(
        self, trace: Trace, values: Float[np.ndarray, "seeds epochs"], dashes: tuple[int, ...]
    ) -> list[np.ndarray]:
        """Draw each seed that ended early, and return their values."""
        found = []
        for seed, end in trace.ended.items():
            kept = slice(self.first - 1, end)
            x, one = self._x(trace)[kept], values[seed, kept]
            if self.alone:
                self._line(trace, x, one[None], dashes)
            else:
                wide = 0.5 * self.style.theme.line
                self.axes.plot(x, one, color=self._colour(trace), dashes=dashes, lw=wide)
            found.append(one)
        return found

    def _crosses(self, trace: Trace) -> None:
        """Draw a cross where a seed diverged, at the edge if it is beyond it."""
        if trace.grey or self.quantity not in trace.validation:
            return
        low, high = self.axes.get_ylim()
        for seed in trace.diverged:
            end = trace.ended.get(seed, 0)
            if end >= self.first:
                value = trace.validation[self.quantity][seed, end - 1]
                self.axes.plot(
                    *(self._x(trace)[end - 1], min(max(value, low), high)),
                    color=self._colour(trace),
                    marker="x",
                    ms=0.75 * self.style.theme.font,
                    ls="",
                    clip_on=False,
                )

    def _grey(self, trace: Trace) -> None:
        """Draw the validation mean of one of many traces, over seeds that reached the end."""
        if self.quantity not in trace.validation or trace.epochs < self.first or not trace.whole:
            return
        kept = slice(self.first - 1, trace.epochs)
        mean = trace.validation[self.quantity][trace.whole, kept].mean(axis=0)
        thin = 0.5 * self.style.theme.line
        self.axes.plot(self._x(trace)[kept], mean, color=GREY, lw=thin, zorder=1.5)

    def _line(
        self,
        trace: Trace,
        x: Float[np.ndarray, " epochs"],
        values: Float[np.ndarray, "seeds epochs"],
        dashes: tuple[int, ...],
    ) -> None:
        """Draw a mean and its band."""
        theme, colour = self.style.theme, self._colour(trace)
        label = ("train" if dashes else "validation") if self.alone else trace.name
        self.axes.plot(
            x,
            values.mean(axis=0),
            color=colour,
            dashes=dashes,
            lw=(0.9 if dashes else 1.15) * theme.line,
            marker=marker(trace.place or 0) if not self.alone or len(x) <= _FEW else "",
            markevery=_marked(x, self.axes),
            ms=0.45 * theme.font,
            mfc=theme.paper if dashes else colour,
            mew=0.6 * theme.line,
            label=f"_{label}" if dashes and not self.alone else label,
        )
        if len(values) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            self.axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def _within(values: Float[np.ndarray, " values"]) -> tuple[float, float]:
    """Return limits without outliers: the middle 90 %, extended by its width on both sides."""
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

    If `settled`, outliers of these seeds are left out too. The last values of a diverged seed may
    be a million nats away, and would flatten all other curves.
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
        if high >= _DECADE * low > 0:
            logarithmic(axes, low, high)
            return
        margin = 0.05 * (high - low) or 0.05 * high or 1.0
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
