"""The latent space of a model: KL of each dimension, posterior means, aggregate posterior."""

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int32
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from vaectl.pictures.canvas import Figure, panels
from vaectl.pictures.latent import density
from vaectl.pictures.style import DEFAULT, Style

_MARKERS = "osD^v*PX<>"
_BELOW = 3.7
"""Distance of a legend from the panel above it, in font sizes: that of an axis and its name."""
_MANY = 2000
"""Points of which a vector file holds a picture instead."""


def inspection(
    mu: Float[np.ndarray, "images code"],
    log_var: Float[np.ndarray, "images code"],
    kl_by_dimension: Float[np.ndarray, " code"],
    labels: Int32[np.ndarray, " images"] | None,
    dims: tuple[int, int],
    *,
    title: str,
    style: Style = DEFAULT,
) -> Figure:
    """Show a latent space.

    Args:
        mu: posterior means.
        log_var: logarithms of posterior variances.
        kl_by_dimension: means over images.
        labels: classes, which set the colours and markers of the means.
        dims: the two dimensions that are drawn.
        title: the title of the figure.
        style: its look.
    """
    with mpl.rc_context(style.settings()):
        shapes, weights = (0.45, 1.0, 0.5), (1, 1.25, 1.05)
        figure, axes, beside = panels(style, title, shapes, width=175.0, weights=weights, below=2)
        bars, scatter, curve = axes
        room = style.width(175.0) / beside
        _bars(bars, kl_by_dimension, int(room / (2.6 * style.theme.font)), style)
        _scatter(scatter, mu, labels, dims, style)
        _aggregate(curve, mu, log_var, dims, style)
    return figure


def _bars(axes: Axes, kl_by_dimension: Float[np.ndarray, " code"], most: int, style: Style) -> None:
    """Draw the KL of each dimension, the highest first; at most so many have a number."""
    order = np.argsort(kl_by_dimension)[::-1]
    axes.bar(range(len(order)), kl_by_dimension[order], color=style.theme.accent, width=0.75)
    every = -(-len(order) // most)
    axes.set_xticks(range(0, len(order), every), [str(i) for i in order[::every]])
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("dimension")
    axes.set_ylabel("KL (nats per image)")
    axes.set_title("KL by dimension", loc="left")


def _scatter(
    axes: Axes,
    mu: Float[np.ndarray, "images code"],
    labels: Int32[np.ndarray, " images"] | None,
    dims: tuple[int, int],
    style: Style,
) -> None:
    """Draw the means; points are the smaller, the more there are, so that they do not merge."""
    x, y = mu[:, dims[0]], mu[:, dims[1]]
    classes = [] if labels is None else sorted(set(labels.tolist()))
    several = 1 < len(classes) <= len(style.theme.palette)
    font = style.theme.font
    halo = withStroke(linewidth=0.25 * font, foreground=style.theme.paper)
    size = font * float(np.clip(8.5 / np.sqrt(len(mu)), 0.09, 0.5))
    for number, label in enumerate(classes if several else [None]):
        rows = labels == label if several else np.ones(len(mu), bool)
        axes.plot(
            x[rows],
            y[rows],
            _MARKERS[number] if several else "o",
            ms=size,
            mew=0,
            color=style.colour(number) if several else style.theme.accent,
            label=str(label) if several else "_",
            rasterized=len(mu) > _MANY,
        )
    if several:
        # the number shows the class in print without colour
        for label in classes:
            rows = labels == label
            axes.annotate(
                str(label),
                (float(np.median(x[rows])), float(np.median(y[rows]))),
                ha="center",
                va="center",
                fontweight="bold",
                path_effects=[halo],
            )
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            borderaxespad=_BELOW,
            ncols=5,
            markerscale=0.6 * font / size,
            handletextpad=0.1,
            columnspacing=1.0,
        )
    angle = np.linspace(0, 2 * np.pi, 200)
    for radius in (1, 2, 3):
        axes.plot(
            radius * np.cos(angle),
            radius * np.sin(angle),
            color=style.theme.ink,
            lw=0.5 * style.theme.line,
            ls=":",
        )
        axes.annotate(
            f"{radius}$\\sigma$",
            (0, radius),
            ha="center",
            va="center",
            fontsize=style.small,
            path_effects=[halo],
        )
    limit = max(3.3, 1.05 * float(np.abs(mu[:, dims]).max()))
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.set_xlabel(f"$z_{{{dims[0]}}}$")
    axes.set_ylabel(f"$z_{{{dims[1]}}}$")
    axes.set_title("means, and $\\sigma$ of the prior", loc="left")


def _aggregate(
    axes: Axes,
    mu: Float[np.ndarray, "images code"],
    log_var: Float[np.ndarray, "images code"],
    dims: tuple[int, int],
    style: Style,
) -> None:
    """Draw the density of the aggregate posterior in both dimensions, and the prior's."""
    reach = np.abs(mu) + 3 * np.exp(0.5 * log_var)
    limit = max(4.0, float(reach[:, dims].max()))
    z = np.linspace(-limit, limit, 301)
    for dim, dashes in zip(dict.fromkeys(dims), ((), (4, 2)), strict=False):
        found = density(mu[:, dim], log_var[:, dim], z)
        axes.plot(z, found, color=style.theme.accent, dashes=dashes, label=f"$z_{{{dim}}}$")
    prior = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    axes.plot(z, prior, color=style.theme.ink, lw=0.9 * style.theme.line, ls=":", label="prior")
    axes.set_xlim(-limit, limit)
    axes.set_ylim(0, None)
    axes.set_xlabel("z")
    axes.set_ylabel("density")
    axes.set_title("aggregate posterior", loc="left")
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=_BELOW,
        ncols=3,
        columnspacing=1.0,
        handlelength=1.8,
    )
