"""Figures of a comparison: curves as in the paper's Fig. 3, tuning, and ranks."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from vaectl.objectives.base import label as label_of
from vaectl.pictures.figures import STYLE, Figure, axis_label, plain

# Okabe & Ito's colours, which most people can tell apart; markers are for all others and for print
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = "os^Dv*PX"  # one more than colours, so that the pairs repeat only after 56


class Trace(NamedTuple):
    """The curves of one optimizer, one row per seed; NaN after a seed diverged."""

    label: str
    seconds: Float[np.ndarray, "seeds epochs"]
    """Seconds of training since its start."""
    train: Mapping[str, Float[np.ndarray, "seeds epochs"]]
    validation: Mapping[str, Float[np.ndarray, "seeds epochs"]]
    diverged: int = 0
    """The number of seeds that diverged."""

    @property
    def name(self) -> str:
        """The label, and the number of seeds that diverged."""
        lost = f" ({self.diverged} of {len(self.seconds)} diverged)" if self.diverged else ""
        return self.label + lost

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


def curves(traces: Sequence[Trace], by: Literal["epoch", "seconds"], *, title: str) -> Figure:
    """Plot every number, ELBO, KL and NLL say, as in the paper's Fig. 3.

    Training is dashed, validation solid.

    Lines are means and bands are ranges over the seeds that have not diverged; a cross marks where
    a seed diverged. The axes fit the epochs after the first, steep tenth.
    """
    with mpl.rc_context(STYLE):
        names = quantities(traces)
        columns = max(len(names), 1)
        figure = Figure(figsize=(3.5 * columns, 3.9), layout="constrained")
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=9, parse_math=False)
        panels = figure.subplots(1, columns, squeeze=False)[0]
        for axes, quantity in zip(panels, names, strict=False):
            settled: list[float] = []
            for number, trace in enumerate(traces):
                count = trace.epochs
                if not count:
                    axes.plot([], [], color=COLOURS[number % len(COLOURS)], label=trace.name)
                    continue
                x = np.arange(1, count + 1) if by == "epoch" else trace.elapsed
                for split, dashes in ((trace.train, (4, 2)), (trace.validation, ())):
                    if quantity not in split:
                        continue
                    settled += _line(axes, x, split[quantity][:, :count], number, trace, dashes)
            if settled:
                low, high = min(settled), max(settled)
                margin = 0.05 * (high - low) or 1.0
                axes.set_ylim(low - margin, high + margin)
            if by == "epoch":
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            else:
                _logarithmic(axes)
            axes.set_xlabel("epoch" if by == "epoch" else "seconds of training")
            axes.set_title(axis_label(quantity), loc="left")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        seeds = max((len(trace.seconds) for trace in traces), default=1)
        band = f"; band: lowest to highest of {seeds} seeds" if seeds > 1 else ""
        if any(trace.diverged and trace.epochs for trace in traces):
            band += ", without those that diverged" * (seeds > 1) + "; cross: a seed diverged"
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=max(140 // (max(map(len, labels), default=0) + 8), 1),
            title=f"solid: validation, dashed: training{band}",
        )
    return figure


def _line(
    axes: Axes,
    x: Float[np.ndarray, " epochs"],
    values: Float[np.ndarray, "seeds epochs"],
    number: int,
    trace: Trace,
    dashes: tuple[int, ...],
) -> list[float]:
    """Draw a mean and its band; return the mean after the first tenth of the epochs."""
    colour = COLOURS[number % len(COLOURS)]
    mean = np.nanmean(values, axis=0)
    axes.plot(
        x,
        mean,
        color=colour,
        dashes=dashes,
        lw=1.1 if dashes else 1.4,
        marker=_MARKERS[number % len(_MARKERS)],
        markevery=max(len(x) // 6, 1),
        ms=3,
        label=f"_{trace.label}" if dashes else trace.name,
    )
    for seed in values if not dashes else ():
        end = np.isfinite(seed).sum() - 1
        if 0 <= end < len(x) - 1 or (trace.diverged == len(values) and end >= 0):
            axes.plot(x[end], seed[end], color=colour, marker="x", ms=6, ls="")
    if len(values) > 1:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    settled: list[float] = mean[len(mean) // 10 :].tolist()
    return settled


def sensitivity(
    tried: Mapping[str, Sequence[tuple[float, float | None]]], quantity: str, *, title: str
) -> Figure:
    """Plot the mean best value of each learning rate on the validation split.

    A cross marks a learning rate at which a seed diverged.

    Args:
        tried: pairs of learning rate and value, by optimizer.
        quantity: the name of the value.
        title: its heading.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _panel(title)
        settled: list[float] = []
        for number, (label, points) in enumerate(tried.items()):
            colour, marker = COLOURS[number % len(COLOURS)], _MARKERS[number % len(_MARKERS)]
            known = [(rate, value) for rate, value in points if value is not None]
            if known:
                axes.plot(*zip(*known, strict=True), color=colour, marker=marker, ms=4, label=label)
            bad = [rate for rate, value in points if value is None]
            # drawn on the axis, because they have no value
            (cross,) = axes.plot(
                bad,
                [0.0] * len(bad),
                clip_on=False,
                color=colour,
                ls="",
                marker="x",
                transform=axes.get_xaxis_transform(),
                label=f"{label}, a seed diverged" if bad else "_",
            )
            cross.set_in_layout(False)
            settled += sorted(value for _, value in known)[len(known) // 2 :]
        if settled:
            # one very low value must not flatten the others
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, min(settled) - 3 * (max(settled) - min(settled)) - 1), high)
        _logarithmic(axes)
        axes.set_xlabel("learning rate")
        axes.set_ylabel(f"best validation {label_of(quantity)} (nats)")
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def budget(expected: Mapping[str, Sequence[float | None]], quantity: str, *, title: str) -> Figure:
    """Plot the expected best value of so many learning rates, drawn from those tried.

    Args:
        expected: the value for 1, 2, ... learning rates, by optimizer; None: not known.
        quantity: the name of the value.
        title: its heading.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _panel(title)
        for number, (label, values) in enumerate(expected.items()):
            axes.plot(
                range(1, len(values) + 1),
                [np.nan if value is None else value for value in values],
                color=COLOURS[number % len(COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                ms=4,
                label=label,
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("learning rates tried")
        axes.set_ylabel(f"expected best validation {label_of(quantity)} (nats)")
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def ranks(found: Mapping[str, Sequence[float]], *, title: str) -> Figure:
    """Plot the rank of each optimizer at each seed as a dot, and the mean as a line."""
    with mpl.rc_context(STYLE):
        figure, axes = _panel(title)
        for number, values in enumerate(found.values()):
            colour = COLOURS[number % len(COLOURS)]
            spread = number + np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [number]
            axes.plot(spread, values, ls="", marker="o", ms=4, color=colour)
            axes.hlines(float(np.mean(values)), number - 0.3, number + 0.3, color=colour, lw=1.4)
        crowded = sum(map(len, found)) > 50
        axes.set_xticks(range(len(found)), list(found))
        axes.tick_params(axis="x", labelrotation=20 if crowded else 0)
        axes.set_ylim(len(found) + 0.4, 0.6)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("rank at each seed (1: the best); line: mean")
    return figure


def _logarithmic(axes: Axes) -> None:
    """Use a logarithmic axis with labels at 1, 2 and 5 of each decade."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _panel(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(plain(title), loc="left", parse_math=False)
    return figure, axes
