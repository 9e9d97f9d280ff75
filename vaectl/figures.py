"""Arrays and tables as matplotlib figures. No JAX, no disk, and no pyplot: it has global state."""

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaectl.record import Row

Quantity = Literal["elbo", "kl", "nll"]

LABELS: dict[Quantity, str] = {
    "elbo": "ELBO (nats per image)",
    "kl": "KL divergence from the prior (nats per image)",
    "nll": "negative log-likelihood (nats per image)",
}
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "xtick.direction": "out",
    "legend.frameon": False,
    "figure.dpi": 200,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "vaectl",  # names inside an SVG that do not change from run to run
}
_INK = "#1f3a5f"


def curves(rows: Sequence[Row], quantity: Quantity, *, title: str) -> Figure:
    """Plot one quantity by epoch: training dashed, validation solid, as in the paper's Fig. 3.

    The axis shows what follows the first steep epochs; those run out of it.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.0, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for split, dashes, width in (("train", (4, 2), 1.1), ("validation", (), 1.4)):
            points = [(row.epoch, getattr(row, quantity)) for row in rows if row.split == split]
            epochs, values = zip(*points, strict=True) if points else ((), ())
            marker = "o" if len(points) == 1 else ""
            axes.plot(
                epochs, values, color=_INK, dashes=dashes, lw=width, marker=marker, label=split
            )
        last = max((row.epoch for row in rows), default=1)
        settled = [getattr(row, quantity) for row in rows if row.epoch > last // 20]
        if settled and len(settled) < len(rows):
            low, high = min(settled), max(settled)
            margin = 0.05 * (high - low) or 1.0
            axes.set_ylim(low - margin, high + margin)
        axes.set_xlim(min(1, last - 1), last)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(LABELS[quantity])
        axes.set_title(title, loc="left")
        axes.legend()
    return figure
