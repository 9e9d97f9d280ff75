"""Writing of a comparison's results: summary.json, figures/, report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from vaectl.base import spent
from vaectl.base.files import Folder
from vaectl.comparison import report
from vaectl.comparison.order import in_order
from vaectl.comparison.result import Member, Result, members
from vaectl.comparison.summarize import summarize
from vaectl.comparison.summary import Side, Summary
from vaectl.config.meaning import estimators
from vaectl.pictures import charts, fields, search
from vaectl.pictures.canvas import Figure
from vaectl.pictures.traces import COLOURS, Trace
from vaectl.studies import directory, drawing
from vaectl.studies.ledger import write
from vaectl.training.events import Phase, Watch, ignore

CAPTIONS = {
    "board": "Best validation score of each optimizer",
    "along": "Rank of each optimizer along the budget",
    "learning-rates": "Best validation score by learning rate",
    "budget": "Expected best validation score by number of points tried",
}
"""Captions of the figures that are embedded in the page."""


@spent.on("figures and page")
def publish(result: Result, watch: Watch = ignore) -> Summary:
    """Write the summary and the figures, and a page with both.

    Raises:
        RunError: a file cannot be written.
    """
    with directory.locked(result.path, force=False):
        watch(Phase("drawing curves"))
        return _publish(result)


def _publish(result: Result) -> Summary:
    summary = summarize(result)
    by_label = members(result)
    order = in_order(list(by_label), [side.label for side in summary.sides])
    sides = sorted(summary.sides, key=lambda side: order.index(side.label))
    traces = [
        _trace(side, by_label[side.label])._replace(
            grey=len(sides) > COLOURS and place >= report.FEW, place=place
        )
        for place, side in enumerate(sides)
    ]
    figures = _figures(result, summary, by_label, sides, traces)
    written = drawing.replace(result.path, figures, {"curves-seconds", *CAPTIONS})
    images = {CAPTIONS[name]: written[name].read_bytes() for name in CAPTIONS if name in written}
    runs = {
        label: {member.outcome.seed: member.run_name for member in those}
        for label, those in by_label.items()
    }
    files = {
        "summary.json": summary.model_dump_json(indent=2) + "\n",
        "report.html": report.render(summary, result.settings, traces, images, runs),
    }
    for name, text in files.items():
        write(Folder(result.path), name, text)
    best = summary.sides[0].best_run if summary.sides else None
    result.problems.extend(drawing.draw(result.trials, best, result.path))
    return summary


def _figures(
    result: Result,
    summary: Summary,
    by_label: Mapping[str, Sequence[Member]],
    sides: Sequence[Side],
    traces: Sequence[Trace],
) -> dict[str, Figure]:
    """Draw the figures of a result, by their names; the traces are those of the sides."""
    what = [summary.metrics[key] for key in ("estimator", "binarization") if summary.metrics]
    title = "\n".join([summary.name, ", ".join(what)]).strip()
    curves = partial(
        charts.curves,
        title="\n".join([summary.name, *what[1:]]),
        how=estimators(result.settings.base),
        settled=True,
    )
    figures = {"curves": curves(traces, "epoch")}
    if not summary.loaded:
        timed = [trace for trace, side in zip(traces, sides, strict=True) if side.seconds_per_step]
        figures["curves-seconds"] = curves(timed, "seconds")
    if bars := [bar for side in summary.sides if (bar := _bar(side, summary, by_label))]:
        figures["board"] = fields.board(bars, summary.quantity, title=title)
    if len(sides) > 1 and summary.epochs > 1:
        ranks = {side.label: np.array(side.ranks_along) for side in sides}
        order = [side.label for side in summary.sides]
        places = {side.label: place for place, side in enumerate(sides)}
        figures["along"] = fields.along(ranks, order, places, title=title)
    if result.settings.tuning:
        tried = {
            side.label: [(rate.learning_rate, rate.score) for rate in side.tried] for side in sides
        }
        expected = {side.label: side.expected_best for side in sides}
        figures["learning-rates"] = search.sensitivity(tried, summary.quantity, title=title)
        figures["budget"] = search.budget(expected, summary.quantity, title=title)
    return figures


def _trace(side: Side, members: Sequence[Member]) -> Trace:
    """Return the curves of an optimizer, by the time of a step that was measured with all."""
    trace = Trace.of(
        side.label,
        [member.curve for member in members],
        [member.outcome.status == "diverged" for member in members],
    )
    steps = next((row.step / row.epoch for member in members for row in member.curve), 0.0)
    seconds = (side.seconds_per_step or 0.0) * steps * np.arange(1, trace.seconds.shape[1] + 1)
    return trace._replace(seconds=np.where(np.isfinite(trace.seconds), seconds, np.nan))


def _bar(
    side: Side, summary: Summary, by_label: Mapping[str, Sequence[Member]]
) -> fields.Bar | None:
    """Return the row of an optimizer on the board; None if all seeds diverged."""
    best = side.best.get(summary.quantity)
    if best is None:
        return None
    seeds = [member.outcome.score for member in by_label[side.label] if member.finished]
    return fields.Bar(side.label, best.mean, best.low, best.high, seeds)
