"""A waterfall from the NLL to log p(x), which shows where the nats go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from vaectl.pictures import text
from vaectl.pictures.canvas import Figure, panels
from vaectl.pictures.style import DEFAULT, Style
from vaectl.runs.diagnosis import Aggregate, Diagnosis, Nats
from vaectl.runs.record import Estimate

_WIDTH = 175.0
_Kind = Literal["total", "cost", "open", "gap"]
_BESIDE = 40
"""The least width of a figure whose panels stand beside each other, in font sizes."""


class _Bar(NamedTuple):
    """A row of the waterfall."""

    label: str
    start: float
    end: float
    kind: _Kind
    number: str


def waterfall(d: Diagnosis, *, title: str, style: Style = DEFAULT) -> Figure:
    """Show how -ELBO and -log p(x) come about, of held-out and of training images.

    Costs are filled, what may be either of two is hatched, gaps are outlined, and sums are dark, so
    that they are told apart without colours.

    Args:
        d: the diagnosis.
        title: the heading.
        style: the look.
    """
    facts = (
        f"nats per image with standard errors, {d.binarization}; gaps of {d.held_out.subset} "
        f"images of each split; log {d.of_image} by annealed importance sampling, {d.chains} "
        f"chains, {d.temperatures} temperatures"
    )
    splits = [(d.held_out, d.aggregate), (d.train, None)]
    rows = [list(_bars(d, nats, gathered)) for nats, gathered in splits]
    with mpl.rc_context(style.settings()):
        below = style.width(_WIDTH) < _BESIDE * style.theme.font
        figure, axes, _ = panels(
            style, title, [0.6, 0.5], facts=facts, width=_WIDTH, rows=1 + below, shape=0.75
        )
        for panel, bars, (nats, _) in zip(axes, rows, splits, strict=True):
            _draw(panel, bars, style)
            panel.set_title(f"{nats.images:,} {nats.split} images", loc="left")
        _limit(figure, axes, [bar for bars in rows for bar in bars], style)
    return figure


def _bars(d: Diagnosis, nats: Nats, gathered: Aggregate | None) -> Iterator[_Bar]:
    """Yield the rows from the top; without an aggregate posterior the KL is one of them."""
    at = nats.nll.mean
    yield _Bar("NLL", 0.0, at, "cost", _told(nats.nll))
    if gathered is None:
        yield _Bar("KL", at, at + nats.kl.mean, "cost", _told(nats.kl))
    else:
        least = min(max(gathered.least.mean, 0.0), nats.kl.mean)
        most = min(max(gathered.most.mean, least), nats.kl.mean)
        parts: list[tuple[str, float, _Kind]] = [
            ("mutual information", nats.kl.mean - most, "cost"),
            ("either, not known", most - least, "open"),
            (f"KL({d.of_codes} || p(z))", least, "cost"),
        ]
        for label, size, kind in parts:
            bound = "" if kind == "open" or most - least < 0.05 else "at least "
            yield _Bar(label, at, at + size, kind, f"{bound}{size:.1f}")
            at += size
    total = -nats.elbo.mean
    yield _Bar("-ELBO", 0.0, total, "total", _told(nats.elbo, -1))
    for label, gap in (
        ("amortization gap", nats.amortization),
        ("approximation gap", nats.approximation),
    ):
        yield _Bar(label, total, total - gap.mean, "gap", _told(gap))
        total -= gap.mean
    yield _Bar(f"-log {d.of_image}", 0.0, total, "total", _told(nats.log_p, -1))


def _limit(figure: Figure, axes: list[Axes], bars: list[_Bar], style: Style) -> None:
    """Give all panels the same axis, with room for the numbers at the right of the bars."""
    edges = [edge for bar in bars for edge in (bar.start, bar.end)]
    low, high = min(edges), max(edges)
    words = text.widest((bar.number for bar in bars), style.small) + style.theme.font
    width = min(figure.size(panel)[0] for panel in axes)
    room = (high - low) * words / max(width - words, words)
    margin = 0.05 * (high - low) if low < 0 else 0.0
    for panel in axes:
        panel.set_xlim(low - margin, high + room)


def _told(estimate: Estimate, sign: int = 1) -> str:
    error = estimate.standard_error
    digits = 1 if error >= 0.05 else 2
    return f"{sign * estimate.mean:.{digits}f} ± {error:.{digits}f}"


def _draw(axes: Axes, bars: list[_Bar], style: Style) -> None:
    """Draw the rows of one split, with thin lines from the end of each to the next."""
    theme = style.theme
    pale = [
        0.55 * a + 0.45 * b for a, b in zip(to_rgb(theme.paper), to_rgb(theme.accent), strict=True)
    ]
    looks: dict[_Kind, dict[str, Any]] = {
        "total": {"fc": theme.accent, "ec": theme.accent},
        "cost": {"fc": pale, "ec": theme.accent},
        "open": {"fc": theme.paper, "ec": theme.accent, "hatch": "////"},
        "gap": {"fc": theme.paper, "ec": theme.accent},
    }
    for row, bar in enumerate(bars):
        left, right = sorted((bar.start, bar.end))
        axes.barh(row, right - left, left=left, height=0.7, lw=0.6 * theme.line, **looks[bar.kind])
        axes.annotate(
            bar.number,
            (right, row),
            xytext=(0.4 * theme.font, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=style.small,
            bbox={"boxstyle": "square,pad=0.1", "fc": theme.paper, "lw": 0},
        )
        if row + 1 < len(bars):
            line = 0.5 * theme.line
            axes.plot([bar.end] * 2, [row + 0.35, row + 0.65], color=theme.ink, lw=line, ls=":")
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("nats per image")
