"""Figures of sweeps: main effects, responses to each key, and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import LogLocator, MaxNLocator

from vaectl.base.values import written
from vaectl.objectives.base import label as label_of
from vaectl.pictures.canvas import Figure, digits, logarithmic, panels, rows_of
from vaectl.pictures.style import DEFAULT, Style

MOST_LINES = 400
"""The most points that parallel coordinates show: the best half of these, and some of the rest."""
MOST_LOST = 100
"""The most points that diverged that they show."""
MOST_ROWS = 12
"""The most values of one axis that the figure of effects shows."""
COLOURS = "cividis"
"""A colour map for scores that also works for colour-blind people, and in grey."""

_BINS, _LEAST = 8, 5
"""The most parts of a drawn range for the line of medians, and the fewest values per part."""
_TICKS = 6
_APART = 0.05
"""The least distance of ticks, as a share of the axis."""
_BELOW = -0.06
"""The height of points that diverged, on an axis of scores from 0 to 1."""
_CROWD = 100
"""The number of lines from which on they are drawn thin."""
_MOST_DOTS = 5_000
"""The number of dots from which on they are drawn as an image, which is smaller."""
_WIDE_RATIO = 20.0
"""The ratio of two values from which on an axis is logarithmic."""


def _is_logarithmic(values: Float[np.ndarray, " values"]) -> bool:
    """Tell whether different values in order are spaced by ratios rather than by differences."""
    if values[0] <= 0 or len(values) < 2:
        return False
    if len(values) == 2:
        return bool(values[1] / values[0] >= _WIDE_RATIO)
    ratios, gaps = np.diff(np.log(values)), np.diff(values)
    return bool(ratios.std() / ratios.mean() < gaps.std() / gaps.mean())


class Row(NamedTuple):
    """The effect of a value: its name, mean and interval, in nats per image."""

    name: str
    mean: float
    low: float | None
    high: float | None


class Scale(NamedTuple):
    """Places of values on an axis from 0 to 1, and its ticks."""

    places: Float[np.ndarray, " points"]
    """The places in the axis's own units; for names, their numbers."""
    names: list[str]
    """The names of values that are no numbers; none if they are."""
    logarithmic: bool

    @classmethod
    def of(cls, values: Sequence[Any]) -> Scale:
        """Choose the scale of a key by its values."""
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            numbers = np.array(values, np.float64)
            return cls(numbers, [], _is_logarithmic(np.unique(numbers)))
        names = list(dict.fromkeys(written(value) for value in values))
        places = np.array([names.index(written(value)) for value in values], np.float64)
        return cls(places, names, logarithmic=False)

    @property
    def even(self) -> Float[np.ndarray, " points"]:
        """The places in units that are evenly spaced on paper."""
        return np.log(self.places) if self.logarithmic else self.places

    def dress(self, axes: Axes) -> None:
        """Give a horizontal axis its scale and its ticks."""
        if self.names:
            axes.set_xticks(range(len(self.names)), self.names)
            axes.set_xlim(-0.5, len(self.names) - 0.5)
            axes.grid(visible=False, axis="x")
            return
        few = np.unique(self.places)
        if self.logarithmic:
            logarithmic(axes, few[0], few[-1])
        gaps = np.diff(np.unique(self.even))
        if len(few) <= _TICKS and (len(few) < 2 or gaps.min() > 0.1 * gaps.sum()):
            axes.set_xticks(few, [f"{value:g}" for value in few])
        elif not self.logarithmic:
            whole = bool((few == np.round(few)).all())
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole))


def effects(
    found: Mapping[str, Sequence[Row]],
    quantity: str,
    *,
    title: str,
    facts: str = "",
    style: Style = DEFAULT,
) -> Figure:
    """Plot what each value adds to the score, on average over all others.

    Of an axis with more than `MOST_ROWS` values, only those with the largest and the least effects
    are shown.

    Args:
        found: rows by axis, the axis that matters most first.
        quantity: the name of the score.
        title: the heading.
        facts: what the numbers mean, below the heading.
        style: the look.
    """
    with mpl.rc_context(style.settings()):
        shown = {axis: _ends(rows) for axis, rows in found.items()}
        few = [
            f"{axis}: the best and the worst {MOST_ROWS // 2} of {len(rows)} values"
            for axis, rows in found.items()
            if len(rows) > MOST_ROWS
        ]
        facts = "; ".join(filter(None, [facts, *few]))
        font = style.theme.font
        names = rows_of([row.name for rows in shown.values() for row in rows], style, 120.0)
        span = sum(names.heights) + len(shown)
        high = max(1.7 * font * span / style.width(120.0), 0.25)
        figure, (axes,), _ = panels(style, title, [high], facts=facts, width=120.0)
        heights = iter(names.heights)
        place, ticks = -0.5, []
        for number, rows in enumerate(shown.values()):
            for row in rows:
                colour = style.colour(number)
                height = next(heights)
                place += height / 2
                if row.low is not None and row.high is not None:
                    axes.hlines(place, row.low, row.high, color=colour)
                axes.plot(row.mean, place, marker="o", ms=0.5 * font, color=colour)
                ticks.append(place)
                place += height / 2
            place += 0.6
        axes.axvline(0, color=style.theme.ink, linewidth=0.5 * style.theme.line)
        axes.set_yticks(ticks, names.labels)
        axes.set_ylim(place - 0.5, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_title(names.beside("effect of each value, on average over all others"), loc="left")
        what = f"change of the best validation {label_of(quantity)}, nats per image"
        axes.set_xlabel(names.beside(what))
    return figure


def _ends(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, in their order; of too many those at both ends."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    by_mean = sorted(range(len(rows)), key=lambda i: rows[i].mean)
    kept = {*by_mean[: MOST_ROWS // 2], *by_mean[-(MOST_ROWS // 2) :]}
    return [row for i, row in enumerate(rows) if i in kept]


def responses(
    columns: Mapping[str, Sequence[Any]],
    drawn: Sequence[str],
    scores: Float[np.ndarray, "points seeds"],
    quantity: str,
    *,
    title: str,
    facts: str = "",
    style: Style = DEFAULT,
) -> Figure:
    """Plot the score of each trial by each key, and means, or medians of parts of a drawn range.

    Crosses on the axis mark trials that diverged, triangles those of lower scores than it shows.

    Args:
        columns: each point's value of each key, or of keys that go together.
        drawn: those whose values were drawn from a range.
        scores: the score of each point and seed: -inf for one that diverged, NaN without a result.
        quantity: the name of the score.
        title: the heading.
        facts: what the numbers mean, below the heading.
        style: the look.
    """
    finite = scores[np.isfinite(scores)]
    cloud = _Cloud(scores.ravel(), _floor(finite), style)
    meanings = {"x": "crosses: diverged", "v": "triangles: lower scores"}
    said = [facts, *(meanings[mark] for mark, those in cloud.marks.items() if those.any())]
    with mpl.rc_context(style.settings()):
        figure, all_axes, beside = panels(
            *(style, title, [0.6] * len(columns)), facts="; ".join(filter(None, said)), width=175.0
        )
        for place, (axes, (key, values)) in enumerate(zip(all_axes, columns.items(), strict=True)):
            scale = Scale.of(values)
            cloud.draw(axes, scale, medians=key in drawn and not scale.names)
            if finite.size:
                top = float(finite.max())
                margin = 0.05 * (top - cloud.low) + 1e-3
                axes.set_ylim(cloud.low - margin, top + margin)
            scale.dress(axes)
            axes.set_xlabel(key)
            axes.set_ylabel("" if place % beside else "nats per image")
            axes.tick_params(axis="y", labelleft=place % beside == 0)
        all_axes[0].set_title(f"best validation {label_of(quantity)}", loc="left")
    return figure


class _Cloud(NamedTuple):
    """The scores of all trials, which each panel shows by the values of another key."""

    scores: Float[np.ndarray, " trials"]
    low: float
    """The lower end of the axis."""
    style: Style

    @property
    def marks(self) -> dict[str, Bool[np.ndarray, " trials"]]:
        """The trials that have no dot on the axis, by their marker."""
        below = np.isfinite(self.scores) & (self.scores < self.low)
        return {"x": np.isneginf(self.scores), "v": below}

    def draw(self, axes: Axes, scale: Scale, *, medians: bool) -> None:
        """Draw dots, marks at the lower end, and medians or means: a line, or bars of names."""
        x = np.repeat(scale.places, len(self.scores) // len(scale.places))
        alive, font = np.isfinite(self.scores), self.style.theme.font
        size = 0.35 * font * min(1.0, math.sqrt(200 / max(len(x), 1)))
        axes.plot(
            x[alive],
            self.scores[alive],
            color=self.style.theme.accent,
            ls="",
            marker="o",
            ms=max(size, 1.2),
            mew=0,
            alpha=0.45,
            rasterized=len(x) > _MOST_DOTS,
        )
        for marker, those in self.marks.items():
            (edge,) = axes.plot(
                x[those],
                np.zeros(int(those.sum())),
                color=self.style.colour(2),
                ls="",
                marker=marker,
                ms=0.5 * font,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
            edge.set_in_layout(False)
        line = (_medians if medians else _means)(x[alive], self.scores[alive])
        bars: dict[str, Any] = {"ls": "", "marker": "_", "ms": 2.5 * font} if scale.names else {}
        axes.plot(*line, color=self.style.theme.accent, **bars)


def parallel(
    columns: Mapping[str, Sequence[Any]],
    scores: Float[np.ndarray, " points"],
    quantity: str,
    *,
    title: str,
    facts: str = "",
    style: Style = DEFAULT,
) -> Figure:
    """Plot each point as a line across its values, with the colour of its mean score.

    The axis of scores is the scale of the colours. Dashed lines are points that diverged.

    Args:
        columns: each point's value of each key.
        scores: the mean score of each point: -inf for one that diverged, NaN without a result.
        quantity: the name of the score.
        title: the heading.
        facts: what the numbers mean, below the heading.
        style: the look.
    """
    with mpl.rc_context(style.settings()):
        figure, (axes,), _ = panels(style, title, [0.5], facts=facts, width=175.0, below=2)
        alive, lost = _shown(scores), np.flatnonzero(np.isneginf(scores))[:MOST_LOST]
        known = scores[alive]
        floor, top = _floor(known), float(known.max()) if known.size else 1.0
        norm = Normalize(floor, top)
        shown = np.concatenate([alive, lost]).astype(int)
        every = [
            _Column(key, *_heights(Scale.of(values), shown)) for key, values in columns.items()
        ]
        name = f"best validation {label_of(quantity)}\nnats per image"
        every.append(_Column(name, *_scored(known, floor, len(lost))))
        last = len(every) - 1
        _join(axes, np.stack([each.heights for each in every], axis=1), known, norm, style)
        unit = 0.9 * style.width(175.0) / (last + 0.3)
        _rule(axes, every, unit, style)
        strip = (last - 0.8 * style.small / unit, last, 0.0, 1.0)
        shades = np.linspace(floor, top, 256)[:, None]
        axes.imshow(shades, cmap=COLOURS, norm=norm, extent=strip, origin="lower", aspect="auto")
        widest = max((len(name) for _, name in every[-1].ticks), default=0)
        axes.set_xlim(-0.02 * len(every), last + (0.6 * widest + 1) * style.small / unit)
        axes.set_ylim((2 * _BELOW if len(lost) else 0) - 0.03, 1.03)
        axes.set_yticks([])
        axes.set_xticks(range(len(every)), ["\n".join(_parts(each.name)) for each in every])
        axes.spines[:].set_visible(False)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False)
    return figure


_Ticks = list[tuple[float, str]]


class _Column(NamedTuple):
    """One axis of parallel coordinates, from 0 to 1."""

    name: str
    heights: Float[np.ndarray, " points"]
    """The heights of all points; points that diverged come last."""
    ticks: _Ticks


def _scored(
    known: Float[np.ndarray, " alive"], floor: float, lost: int
) -> tuple[Float[np.ndarray, " points"], _Ticks]:
    """Return the heights of scores, the worst one first, and of points that diverged, and ticks."""
    scale = Scale(np.round(np.maximum(known, floor), 2), [], logarithmic=False)
    heights, ticks = _heights(scale, np.arange(len(known)))
    if known.size and known[0] < floor:
        above = [tick for tick in ticks if tick[0] > _APART]
        ticks = [(0.0, f"\N{LESS-THAN OR EQUAL TO} {floor:.5g}"), *above]
    if lost:
        ticks = [*ticks, (_BELOW, "diverged")]
    return np.append(heights, np.full(lost, _BELOW)), ticks


def _join(
    axes: Axes,
    heights: Float[np.ndarray, "points axes"],
    known: Float[np.ndarray, " alive"],
    norm: Normalize,
    style: Style,
) -> None:
    """Draw the line of each point, in the colour of its score; that of the best one is dark."""
    count, last = len(known), heights.shape[1] - 1
    begin = np.stack(np.broadcast_arrays(np.arange(last), heights[:, :-1]), axis=-1)
    end = np.stack(np.broadcast_arrays(np.arange(1, last + 1), heights[:, 1:]), axis=-1)
    lines = np.stack([begin, end], axis=2)  # of each point, from axis to axis
    crowded = count > _CROWD
    named: dict[str, Any] = {
        "linewidths": style.theme.line * (0.6 if crowded else 0.9),
        "alpha": 0.6 if crowded else 0.9,
    }
    colours: dict[str, Any] = {"cmap": COLOURS, "norm": norm, "array": np.repeat(known, last)}
    lost: dict[str, Any] = {"color": style.colour(2), "ls": "--"}
    axes.add_collection(LineCollection([*lines[:count].reshape(-1, 2, 2)], **colours, **named))
    axes.add_collection(LineCollection([*lines[count:].reshape(-1, 2, 2)], **lost, **named))
    if count:
        best: dict[str, Any] = {"color": style.theme.ink, "linewidths": 2 * style.theme.line}
        axes.add_collection(LineCollection([*lines[count - 1]], **best))


def _rule(axes: Axes, every: Sequence[_Column], unit: float, style: Style) -> None:
    """Draw the axes, `unit` points apart, and their ticks.

    Labels stand on paper, so that lines do not cross their letters.
    """
    under = {"facecolor": style.theme.paper, "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    text: dict[str, Any] = {"fontsize": style.small, "va": "center", "bbox": under, "zorder": 4}
    for place, column in enumerate(every):
        axes.vlines(place, 0, 1, color=style.theme.ink, linewidth=0.6 * style.theme.line)
        for height, name in column.ticks:
            axes.text(place + 0.4 * style.small / unit, height, name, **text)


def _parts(key: str) -> list[str]:
    """Divide a key before its last part, so that those of many axes have room."""
    above, dot, last = key.rpartition(".")
    return [above + dot, last] if dot else [key]


def _shown(scores: Float[np.ndarray, " points"]) -> Any:
    """Choose the points to draw, the best last, so that it lies on top."""
    order = np.argsort(np.where(np.isfinite(scores), scores, -np.inf))
    order = order[np.isfinite(scores[order])]
    if len(order) <= MOST_LINES:
        return order
    rest, best = order[: -MOST_LINES // 2], order[-MOST_LINES // 2 :]
    some = rest[np.linspace(0, len(rest) - 1, MOST_LINES // 2).round().astype(int)]
    return np.concatenate([some, best])


def _floor(scores: Float[np.ndarray, " scores"]) -> float:
    """Return a lower end of an axis of scores: one very low score must not flatten the others."""
    if not scores.size:
        return 0.0
    middle, top = float(np.median(scores)), float(scores.max())
    return max(float(scores.min()), middle - 3 * (top - middle) - 0.1)


def _heights(scale: Scale, shown: Any) -> tuple[Float[np.ndarray, " points"], _Ticks]:
    """Return the heights of the chosen points on an axis from 0 to 1, and its ticks."""
    values = scale.even[shown]
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    heights = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
    named = {
        float(height): scale.names[int(value)] if scale.names else f"{value:g}"
        for height, value in sorted(zip(heights, scale.places[shown], strict=True))
    }
    if len(named) > _TICKS and not scale.names:
        if scale.logarithmic:
            ends = np.exp([low, high])
            wanted = np.array(LogLocator(subs=digits(ends[1] / ends[0])).tick_values(*ends))
            places = np.log(wanted)
        else:
            places = wanted = np.array(MaxNLocator(_TICKS - 1).tick_values(low, high))
        named = {
            float((place - low) / (high - low)): f"{value:g}"
            for place, value in zip(places, wanted, strict=True)
            if low <= place <= high
        }
    ticks: _Ticks = []
    for height, name in named.items():
        if not ticks or height - ticks[-1][0] > _APART:
            ticks.append((height, name))
    return heights, ticks


def _means(x: Any, y: Any) -> tuple[Any, Any]:
    """Return the mean at each value."""
    places = np.unique(x)
    return places, np.array([y[x == place].mean() for place in places])


def _medians(x: Any, y: Any) -> tuple[Any, Any]:
    """Return the medians of parts of a range with equal numbers of values; none for few values."""
    count = min(_BINS, len(np.unique(x)) // _LEAST)
    parts = np.array_split(np.argsort(x, kind="stable"), count) if count > 1 else []
    return (
        np.array([np.median(x[part]) for part in parts]),
        np.array([np.median(y[part]) for part in parts]),
    )
