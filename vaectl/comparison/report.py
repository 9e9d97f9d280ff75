"""report.html: a comparison on one page without external files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from vaectl.comparison import words
from vaectl.comparison.plan import Comparison
from vaectl.comparison.summary import Summary
from vaectl.config.schema import Config
from vaectl.objectives.base import label
from vaectl.pictures.style import DEFAULT
from vaectl.pictures.traces import (
    COLOURS,
    Trace,
    axis_label,
    fitted,
    fitted_words,
    outline,
    quantities,
)
from vaectl.runs.record import ACTIVE
from vaectl.studies import page
from vaectl.studies.statistics import shown, told_outliers
from vaectl.studies.trial import told as written

FEW = 5
"""The number of curves that are visible at first if there are more curves than colours; and the
most optimizers for which every pair is listed."""


def render(
    summary: Summary,
    settings: Comparison,
    traces: Sequence[Trace],
    images: Mapping[str, bytes],
    runs: Mapping[str, Mapping[int, str]],
) -> str:
    """Return the page with verdict, tables, curves, figures, settings and environment.

    Args:
        summary: the results.
        settings: the comparison's configuration.
        traces: the curves, which the page draws by JavaScript.
        images: SVG images, by caption.
        runs: the name of each member's run, by label and seed; the page is beside them.
    """
    labels = [side.label for side in summary.sides]
    board, details = words.board(summary), words.details(summary)
    cells = [[cell.text for cell in column.cells] for column in (*board, *details)]
    chief = {labels[0], summary.baseline} if len(labels) > FEW else {*labels}
    near = [pair for pair in summary.pairs if {pair.a, pair.b} & chief]
    return page.render(
        "vaectl.comparison",
        settings=settings,
        file="comparison.yaml",
        summary=summary,
        labels=labels,
        board=board,
        details=details,
        runs=runs,
        pairs=near,
        other_pairs=[pair for pair in summary.pairs if pair not in near],
        ties=f"{words.APPROXIMATELY}: not told apart from {labels[0]}."
        if words.close(summary.sides, summary.pairs)
        else "",
        notes=[
            *words.told_along(summary),
            words.told_times(summary),
            words.told_pairs(summary),
            told_outliers(*cells, [shown(pair.difference) for pair in summary.pairs]),
        ],
        tests=words.told_tests(summary.pairs),
        about={each: _about(settings.entries[each]) for each in labels},
        p_of=words.p_of,
        active=ACTIVE,
        tuned=settings.tuning is not None,
        term=label(summary.quantity),
        interval=shown,
        drawn=_drawn(summary, traces),
        fitted=fitted_words(fitted(traces)),
        images=page.embedded(images),
    )


def _drawn(summary: Summary, traces: Sequence[Trace]) -> dict[str, object]:
    """Return what the page's JavaScript draws."""
    seeds = len(summary.seeds)
    shown_first = FEW if len(traces) > COLOURS else len(traces)
    timed = {each.label for each in summary.sides if each.seconds_per_step and not summary.loaded}
    return {
        "quantities": {name: axis_label(name) for name in quantities(traces)},
        "fitted": fitted(traces),
        "band": f"lowest to highest of {seeds} seeds" if seeds > 1 else "",
        "traces": [
            {
                **_plain(trace, number if trace.place is None else trace.place),
                "seconds": _seconds(trace) if trace.label in timed else [],
                "shown": number < shown_first,
            }
            for number, trace in enumerate(traces)
        ],
    }


def _about(settings: Config) -> tuple[str, str, str]:
    """Return the description of an optimizer, its source, and its settings before any search."""
    chosen = settings.optimizer.chosen
    own = tuple(chosen.model_dump().items())
    return *chosen.described(), written(own)


def _seconds(trace: Trace) -> list[float]:
    found: list[float] = np.round(trace.elapsed, 4).tolist() if trace.epochs else []
    return found


def _plain(trace: Trace, number: int) -> dict[str, object]:
    """Return means and ranges over the seeds that reached the end, and the curves of others."""
    epochs, whole = trace.epochs, trace.whole

    def over_seeds(values: Float[np.ndarray, "seeds epochs"]) -> dict[str, list[float]]:
        known = values[whole, :epochs]
        found = {name: getattr(known, name)(axis=0) for name in ("mean", "min", "max")}
        return {name: np.round(curve, 4).tolist() for name, curve in found.items()}

    def split(numbers: Mapping[str, Float[np.ndarray, "seeds epochs"]]) -> dict[str, object]:
        return {name: over_seeds(curves) for name, curves in numbers.items()} if whole else {}

    def early(seed: int, end: int) -> dict[str, object]:
        curves = {
            name: {key: np.round(values[seed, :end], 4).tolist() for key, values in of.items()}
            for name, of in (("train", trace.train), ("validation", trace.validation))
        }
        return {**curves, "diverged": seed in trace.diverged}

    return {
        "label": trace.name,
        "colour": DEFAULT.colour(number),
        "mark": outline(number),
        "epoch": list(range(1, epochs + 1)),
        "train": split(trace.train),
        "validation": split(trace.validation),
        "early": [early(seed, end) for seed, end in trace.ended.items()],
    }
