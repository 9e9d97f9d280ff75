"""The latent space of a model: KL of each dimension, posterior means, aggregate posterior."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int32
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from vaectl.base.errors import ConfigError
from vaectl.pictures import latent, text
from vaectl.pictures.canvas import PANEL, Figure, panels
from vaectl.pictures.style import DEFAULT, MM, Style
from vaectl.pictures.traces import marker

_BELOW = 3.7
"""Distance of a legend from the panel above it, in font sizes: that of an axis and its name."""
_MANY = 2000
"""The number of points from which a vector file contains them as a bitmap."""
_WIDTH = 175.0
"""Millimetres."""
_LEGEND, _LEGEND_ALONE = 0.33, 0.75
"""The share of the width that a legend has, beside other panels and between them."""
_LEAST = 60.0
"""The least width in millimetres at which panels below each other are readable."""
_LONGEST = 16
"""Characters of the name of a class."""
_NEIGHBOURS = 1000
"""Points among which neighbours are looked for."""


@dataclass(frozen=True)
class Posteriors:
    """The posteriors of images, in the one or two dimensions that are drawn."""

    dims: tuple[int, ...]
    """The numbers of the dimensions, one for each column of the arrays."""
    mu: Float[np.ndarray, "images dims"]
    log_var: Float[np.ndarray, "images dims"]
    labels: Int32[np.ndarray, " images"] | None = None
    """Classes, which set the colours and markers of the means."""
    names: Sequence[str] = ()
    """Those of the classes, if they have any."""
    prior: Float[np.ndarray, "samples dims"] | None = None
    """Codes from the prior; None if it is N(0, I)."""

    @property
    def axes(self) -> list[str]:
        """The names of the dimensions."""
        return [latent.name(dim) for dim in self.dims]

    def classes(self, style: Style) -> list[int]:
        """Return the classes, if there are several and each has a colour."""
        found = [] if self.labels is None else sorted(set(self.labels.tolist()))
        return found if 1 < len(found) <= len(style.theme.palette) else []


def inspection(
    found: Posteriors,
    kl_by_dimension: Float[np.ndarray, " code"],
    *,
    title: str,
    facts: str = "",
    style: Style = DEFAULT,
) -> Figure:
    """Show a latent space.

    Args:
        found: what is drawn of the posteriors.
        kl_by_dimension: means over images, of all dimensions.
        title: the title of the figure.
        facts: what the numbers are of, below the title.
        style: its look.

    Raises:
        ConfigError: the figure is too narrow.
    """
    with mpl.rc_context(style.settings()):
        shapes, weights = (0.62, 1.0, 0.5), (1, 1.25, 1.05)
        several = found.classes(style)
        wide = style.width(_WIDTH)
        if wide < _LEAST * MM:
            raise ConfigError(
                f"--width {wide / MM:g}: too narrow for what inspect shows",
                hint=f"use {_LEAST:g} mm or more",
            )
        beside = wide >= len(shapes) * PANEL * style.theme.font
        room = wide * (_LEGEND if beside else _LEGEND_ALONE)
        columns = _columns([_entry(label, found.names) for label in several], room, style)
        figure, axes, _ = panels(
            *(style, title, shapes),
            facts=facts,
            width=_WIDTH,
            weights=weights,
            below=max(2, -(-len(several) // columns)),
            shape=1.0,
        )
        bars, scatter, curve = axes
        _means(scatter, found, columns, style)
        _aggregate(curve, found, room, style)
        for panel, share in zip(axes[1:], weights[1:], strict=True):
            most = wide * share / sum(weights) if beside else wide
            title = text.wrapped(
                panel.get_title("left"), most - 5 * style.theme.font, style.theme.font
            )
            panel.set_title(title, loc="left")
        # how many bars have room for a name is known when all else has its place
        _bars(bars, kl_by_dimension, figure.size(bars)[1], style)
        if found.labels is not None and several and len(found.dims) == 2:
            width, _ = figure.size(scatter)
            _name_classes(scatter, found.mu, found.labels, several, width, style)
    return figure


def _entry(label: int | None, names: Sequence[str]) -> str:
    """Return what the legend says of a class: its number, and its name if it has one."""
    if label is None or not 0 <= label < len(names):
        return str(label)
    name = text.plain(names[label])
    return f"{label} {name if len(name) <= _LONGEST else name[: _LONGEST - 3] + '...'}"


def _columns(entries: Sequence[str], room: float, style: Style, handle: float = 2.0) -> int:
    """Return how many entries fit in a row of a legend; `handle` is in font sizes."""
    wide = text.widest(entries, style.theme.font) + handle * style.theme.font
    return max(1, min(5, int(room / wide)))


def _bars(
    axes: Axes, kl_by_dimension: Float[np.ndarray, " code"], height: float, style: Style
) -> None:
    """Draw the KL of each dimension, the highest first, in a panel of a given height in points.

    Each bar has the number of its dimension. If there is no room for all bars, the last one is the
    mean of the remaining dimensions.
    """
    most = max(int(height / (1.1 * style.smallest)), 2)
    order = np.argsort(kl_by_dimension)[::-1]
    values, names = kl_by_dimension[order], [str(i) for i in order]
    if len(order) > most:
        rest = len(order) - most + 1
        values = np.append(values[: most - 1], values[most - 1 :].mean())
        names = [*names[: most - 1], "others"]
    rows = range(len(values))
    bars = axes.barh(rows, values, color=style.theme.accent, height=0.75)
    if len(order) > most:
        bars[-1].set(fc=style.theme.paper, ec=style.theme.accent, lw=0.6 * style.theme.line)
        place = (values[-1], len(values) - 1)
        said = f" mean of {rest}"
        axes.annotate(said, place, va="center_baseline", fontsize=style.smallest)
    axes.set_yticks(rows, names)
    size = np.clip(height / len(values) / 1.1, style.smallest, style.small)
    axes.tick_params(axis="y", length=0, labelsize=float(size))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_ylabel("dimension")
    axes.set_xlabel("nats per image")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter("{x:g}")  # a power of ten apart would touch the axis' name
    axes.set_title("KL by dimension", loc="left")


def _means(axes: Axes, found: Posteriors, columns: int, style: Style) -> None:
    """Draw the means; points are the smaller, the more there are, so that they do not merge.

    The means of one dimension stand in a row, or in one row for each class, at random heights.
    """
    several = found.classes(style)
    plane = len(found.dims) == 2
    y = found.mu[:, 1] if plane else np.random.default_rng(0).uniform(-0.35, 0.35, len(found.mu))
    font = style.theme.font
    size = font * float(np.clip(8.5 / np.sqrt(len(y)), 0.09, 0.5))
    for number, label in enumerate(several or [None]):
        rows = found.labels == label if several else np.ones(len(y), bool)
        axes.plot(
            found.mu[rows, 0],
            y[rows] if plane else y[rows] + number,
            marker(number) if several else "o",
            ms=size,
            mew=0,
            color=style.colour(number) if several else style.theme.accent,
            label=_entry(label, found.names) if several else "_",
            rasterized=len(y) > _MANY,
        )
    if several:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            borderaxespad=_BELOW,
            ncols=columns,
            markerscale=0.6 * font / size,
            handletextpad=0.1,
            columnspacing=1.0,
        )
    axes.set_xlabel(found.axes[0])
    if plane:
        axes.set(aspect="equal", ylabel=found.axes[1])
    else:
        count = max(len(several), 1)
        axes.set_yticks(range(len(several)), [str(label) for label in several])
        axes.set_ylabel("class" if several else "")
        axes.set_ylim(count - 0.5, -0.5 - 0.08 * count)  # with room for names of deviations
        axes.grid(visible=False, axis="y")
    if found.prior is None:
        _standard(axes, found, style)
    else:
        _codes(axes, found.mu, found.prior, 0.6 * size, style)


def _codes(
    axes: Axes,
    mu: Float[np.ndarray, "images dims"],
    prior: Float[np.ndarray, "samples dims"],
    size: float,
    style: Style,
) -> None:
    """Draw codes of the prior behind the means; those of one dimension in all rows."""
    plane = prior.shape[1] == 2
    last, first = axes.get_ylim()
    y = prior[:, 1] if plane else np.random.default_rng(1).uniform(first, last, len(prior))
    look: dict[str, Any] = {"mew": 0, "color": style.theme.ink, "alpha": 0.25, "zorder": 0}
    axes.plot(prior[:, 0], y, "o", ms=size, **look)
    ends = np.append(np.quantile(prior, [0.005, 0.995]), mu)
    margin = 0.03 * float(np.ptp(ends))
    limits = float(ends.min()) - margin, float(ends.max()) + margin
    axes.set(xlim=limits, ylim=limits if plane else (last, first))
    axes.set_title("means, and codes of the prior (grey)", loc="left")


def _standard(axes: Axes, found: Posteriors, style: Style) -> None:
    """Mark one, two and three deviations of N(0, I): by circles, or by lines in one dimension."""
    dotted: dict[str, Any] = {"color": style.theme.ink, "lw": 0.5 * style.theme.line, "ls": ":"}
    halo = withStroke(linewidth=0.25 * style.theme.font, foreground=style.theme.paper)
    limit = max(3.3, 1.05 * float(np.abs(found.mu).max()))
    axes.set_xlim(-limit, limit)
    angle = np.linspace(0, 2 * np.pi, 200)
    plane = len(found.dims) == 2
    for radius in (1, 2, 3):
        if plane:
            axes.set_ylim(-limit, limit)
            axes.plot(radius * np.cos(angle), radius * np.sin(angle), **dotted)
        else:
            for x in (-radius, radius):
                axes.axvline(x, **dotted)
        axes.annotate(
            f"{radius}\N{GREEK SMALL LETTER SIGMA}",
            (0, radius) if plane else (radius, 1),
            xycoords="data" if plane else axes.get_xaxis_transform(),
            ha="center",
            va="center" if plane else "top",
            fontsize=style.small,
            path_effects=[halo],
        )
    axes.set_title("means, and \N{GREEK SMALL LETTER SIGMA} of the prior", loc="left")


def _name_classes(
    axes: Axes,
    points: Float[np.ndarray, "images 2"],
    labels: Int32[np.ndarray, " images"],
    classes: Sequence[int],
    width: float,
    style: Style,
) -> None:
    """Write the name of each class where the class prevails, for print without colours.

    The place is the point with the most neighbours of its class; of several, the nearest to the
    median of the class. It keeps some distance from earlier names. A class that prevails nowhere
    gets no name.

    Args:
        axes: the panel, with all points.
        points: the means in both dimensions.
        labels: the class of each.
        classes: all classes.
        width: that of the panel, in points.
        style: the look.
    """
    step = -(-len(points) // _NEIGHBOURS)
    points, labels = points[::step], labels[::step]
    spread = np.abs(points[:, None] - points[None]).max(axis=-1)
    near = np.argsort(spread, axis=1)[:, : max(len(points) // 40, 4)]
    share = (labels[near] == labels[:, None]).mean(axis=1)
    font = style.theme.font
    low, high = axes.get_xlim()
    apart = 2.1 * font * (high - low) / width
    ring = np.array([(0.0, radius) for radius in (1, 2, 3)])
    taken = list(ring[ring[:, 1] < high])
    best = {label: float(share[labels == label].max(initial=0)) for label in classes}
    for label in sorted(classes, key=lambda label: -best[label]):
        off = np.abs(points - np.median(points[labels == label], axis=0)).max(axis=-1)
        for place in np.lexsort((off, -share)):
            free = all(np.abs(points[place] - other).max() >= apart for other in taken)
            if share[place] > 0.5 and labels[place] == label and free:
                taken.append(points[place])
                axes.annotate(
                    str(label),
                    points[place].tolist(),
                    ha="center",
                    va="center",
                    fontweight="bold",
                    bbox={
                        "boxstyle": "circle,pad=0.25",
                        "fc": style.theme.paper,
                        "ec": style.colour(list(classes).index(label)),
                        "lw": 0.8 * style.theme.line,
                    },
                )
                break


def _aggregate(axes: Axes, found: Posteriors, room: float, style: Style) -> None:
    """Draw the density of the aggregate posterior in each dimension, and the prior's."""
    reach = np.abs(found.mu) + 3 * np.exp(0.5 * found.log_var)
    limit = max(4.0, float(reach.max()))
    z = np.linspace(-limit, limit, 301)
    for column, (name, dashes) in enumerate(zip(found.axes, ((), (4, 2)), strict=False)):
        density = latent.density(found.mu[:, column], found.log_var[:, column], z)
        axes.plot(z, density, color=style.theme.accent, dashes=dashes, label=name)
    normal = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    dotted: dict[str, Any] = {"color": style.theme.ink, "lw": 0.9 * style.theme.line}
    if found.prior is None:
        axes.plot(z, normal, ls=":", label="prior", **dotted)
    else:
        exact = np.full(len(found.prior), -np.inf)
        for column, (name, dots) in enumerate(zip(found.axes, (":", (0, (1, 4))), strict=False)):
            density = latent.density(found.prior[:, column], exact, z)
            axes.plot(z, density, ls=dots, label=f"prior, {name}", **dotted)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(0, None)
    axes.set_xlabel("z")
    axes.set_ylabel("density")
    axes.set_title("aggregate posterior", loc="left")
    entries = axes.get_legend_handles_labels()[1]
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=_BELOW,
        ncols=min(3 if found.prior is None else 2, _columns(entries, room, style, handle=3.0)),
        columnspacing=1.0,
        handlelength=1.8,
    )
