"""Figures of curves and of the latent space. No pyplot, which has global state."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int32
from matplotlib import figure as drawn
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from vaectl.objectives.base import label
from vaectl.runs.metrics import Row

LABELS: dict[str, str] = {
    "elbo": "ELBO (nats per image)",
    "kl": "KL divergence from the prior (nats per image)",
    "nll": "negative log-likelihood (nats per image)",
}
_DEFAULTS = {key: mpl.rcParamsDefault[key] for key in mpl.rcParamsDefault if "backend" not in key}
STYLE: dict[Any, Any] = {
    **_DEFAULTS,  # override the user's matplotlibrc, and one in the current directory
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "xtick.direction": "out",
    "legend.frameon": False,
    "figure.dpi": 200,
    "savefig.dpi": 200,
    "svg.hashsalt": "vaectl",  # the same names inside an SVG in every run
}
_INK = "#1f3a5f"


class Figure(drawn.Figure):
    """A figure that is saved in the style in which it was drawn."""

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """Save in STYLE: some settings, such as the names inside an SVG, only matter here."""
        with mpl.rc_context(STYLE):
            super().savefig(*args, **kwargs)


def axis_label(name: str) -> str:
    """Write the name of a number and its unit; the terms of an objective are in nats."""
    return LABELS.get(name, f"{label(name)} (nats per image)")


def plain(title: str) -> str:
    """Return a title without characters that no font has, for names that users chose."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in title)


def png(figure: drawn.Figure) -> bytes:
    """Return a figure as a PNG, for a notebook."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def curves(rows: Sequence[Row], quantity: str, *, title: str) -> Figure:
    """Plot one quantity by epoch: training dashed, validation solid, as in the paper's Fig. 3.

    The axis fits the epochs after the first, steep twentieth.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for split, dashes, width in (("train", (4, 2), 1.1), ("validation", (), 1.4)):
            points = [
                (row.epoch, row.terms[quantity])
                for row in rows
                if row.split == split and quantity in row.terms
            ]
            epochs, values = zip(*points, strict=True) if points else ((), ())
            marker = "o" if len(points) == 1 else ""
            axes.plot(
                epochs, values, color=_INK, dashes=dashes, lw=width, marker=marker, label=split
            )
        axes.set_xlabel("epoch")
        last = max((row.epoch for row in rows), default=1)
        settled = [
            row.terms[quantity] for row in rows if row.epoch > last // 20 and quantity in row.terms
        ]
        if settled and len(settled) < len(rows):
            low, high = min(settled), max(settled)
            margin = 0.05 * (high - low) or 1.0
            axes.set_ylim(low - margin, high + margin)
            axes.set_xlabel(f"epoch (the axis fits those after epoch {last // 20})")
        axes.set_xlim(min(1, last - 1), last)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(axis_label(quantity))
        # a $ in a name is not mathematics
        axes.set_title(plain(title), loc="left", parse_math=False)
        axes.legend()
    return figure


def inspection(
    mu: Float[np.ndarray, "images code"],
    samples: Float[np.ndarray, "images code"],
    kl_by_dimension: Float[np.ndarray, " code"],
    labels: Int32[np.ndarray, " images"] | None,
    dims: tuple[int, int],
    *,
    title: str,
) -> Figure:
    """Show a latent space: KL of each dimension, posterior means, aggregate posterior and prior.

    Args:
        mu: posterior means.
        samples: one sample from each image's posterior; together, the aggregate posterior.
        kl_by_dimension: means over images.
        labels: classes, which set the colours of the means.
        dims: the two dimensions that are drawn.
        title: the title of the figure.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 3.7), layout="constrained")
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=9, parse_math=False)
        bars, scatter, histogram = figure.subplots(1, 3, width_ratios=[1, 1.25, 1])
        _bars(bars, kl_by_dimension)
        _scatter(scatter, mu, labels, dims)
        _aggregate(histogram, samples, dims)
    return figure


def _bars(axes: Axes, kl_by_dimension: Float[np.ndarray, " code"]) -> None:
    order = np.argsort(kl_by_dimension)[::-1]
    axes.bar(range(len(order)), kl_by_dimension[order], color=_INK, width=0.75)
    if len(order) <= 30:
        axes.set_xticks(range(len(order)), [str(i) for i in order], fontsize=6)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("dimension of the code, by KL")
    axes.set_ylabel("KL (nats per image)")
    axes.set_title("KL by dimension", loc="left")


def _scatter(
    axes: Axes,
    mu: Float[np.ndarray, "images code"],
    labels: Int32[np.ndarray, " images"] | None,
    dims: tuple[int, int],
) -> None:
    x, y = mu[:, dims[0]], mu[:, dims[1]]
    classes = [] if labels is None else sorted(set(labels.tolist()))
    size = float(np.clip(70 / np.sqrt(len(mu)), 1.5, 3))
    if 1 < len(classes) <= 10:
        palette = mpl.colormaps["tab10"]
        for i, label in enumerate(classes):
            rows = labels == label
            axes.plot(x[rows], y[rows], "o", ms=size, mew=0, color=palette(i), label=str(label))
            # the number shows the class in print without colour
            axes.annotate(
                str(label),
                (float(np.median(x[rows])), float(np.median(y[rows]))),
                ha="center",
                va="center",
                fontweight="bold",
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )
        axes.legend(
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            markerscale=5 / size,
            handletextpad=0.1,
            fontsize=7,
        )
    else:
        axes.plot(x, y, "o", ms=size, mew=0, color=_INK)
    angle = np.linspace(0, 2 * np.pi, 200)
    for radius in (1, 2, 3):
        axes.plot(radius * np.cos(angle), radius * np.sin(angle), color="0.2", lw=0.6, ls=":")
    limit = max(3.3, 1.05 * float(np.abs(mu[:, dims]).max()))
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.set_xlabel(f"$z_{{{dims[0]}}}$")
    axes.set_ylabel(f"$z_{{{dims[1]}}}$")
    axes.set_title("posterior means; 1, 2, 3 $\\sigma$ of the prior dotted", loc="left")


def _aggregate(
    axes: Axes, samples: Float[np.ndarray, "images code"], dims: tuple[int, int]
) -> None:
    limit = max(4.0, 1.05 * float(np.abs(samples[:, dims]).max()))
    bins = int(np.clip(1.5 * np.sqrt(len(samples)), 20, 80))
    for dim, style in zip(dict.fromkeys(dims), ("-", "--"), strict=False):
        axes.hist(
            samples[:, dim],
            bins,
            range=(-limit, limit),
            density=True,
            histtype="step",
            color=_INK,
            ls=style,
            label=f"$z_{{{dim}}}$, all images",
        )
    z = np.linspace(-limit, limit, 201)
    axes.plot(
        z, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), color="0.45", lw=1.0, ls=":", label="prior"
    )
    axes.set_xlim(-limit, limit)
    axes.set_xlabel("z")
    axes.set_ylabel("density")
    axes.set_title("aggregate posterior and prior", loc="left")
    axes.legend(fontsize=7)
