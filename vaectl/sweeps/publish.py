"""Writing of a sweep's results: summary.json, points.csv, figures/, report.html."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from vaectl.base import spent
from vaectl.base.files import Folder
from vaectl.base.values import written as value_of
from vaectl.pictures import responses
from vaectl.pictures.canvas import Figure
from vaectl.pictures.responses import Row
from vaectl.studies import directory, drawing
from vaectl.studies.ledger import write
from vaectl.sweeps import report
from vaectl.sweeps.run import Result
from vaectl.sweeps.scores import Scores
from vaectl.sweeps.summary import Summary, summarize
from vaectl.training.events import Phase, Watch, ignore

POINTS = "points.csv"


@spent.on("figures and page")
def publish(result: Result, watch: Watch = ignore) -> Summary:
    """Write the summary, a table of all trials, and the figures, and a page with all of it.

    Raises:
        RunError: a file cannot be written.
    """
    with directory.locked(result.path, force=False):
        watch(Phase("drawing effects and responses"))
        summary, scores = summarize(result)
        drawn = figures(result, summary, scores)
        written = drawing.replace(result.path, drawn, report.CAPTIONS)
        images = {name: file.read_bytes() for name, file in written.items()}
        texts = {
            "summary.json": summary.model_dump_json(indent=2) + "\n",
            POINTS: table(result),
            "report.html": report.render(summary, result.settings, images),
        }
        for name, text in texts.items():
            write(Folder(result.path), name, text)
        best = summary.best.run if summary.best else None
        result.problems.extend(drawing.draw(result.trials, best, result.path))
        return summary


def figures(result: Result, summary: Summary, scores: Scores) -> dict[str, Figure]:
    """Draw a sweep: the effects of what was crossed, responses to each key, all points."""
    settings, quantity = result.settings, summary.quantity
    columns = {key: [point.values[key] for point in settings.points] for key in settings.keys}
    by_axis = {
        " and ".join(axis): columns[axis[0]]
        if len(axis) == 1
        else [", ".join(value_of(point.values[key]) for key in axis) for point in settings.points]
        for axis in settings.crossed
    }
    by_axis |= {key: columns[key] for key in summary.drawn}
    what = [summary.metrics[key] for key in ("estimator", "binarization") if summary.metrics]
    if summary.search:
        what.append(f"until epoch {summary.search[0].epoch}")
    facts = ", ".join(what)
    named: dict[str, Any] = {"title": summary.name, "facts": facts}
    found = {"responses": responses.responses(by_axis, summary.drawn, scores, quantity, **named)}
    means = np.mean(scores, axis=1)
    if np.isfinite(means).any():
        found["parallel"] = responses.parallel(columns, means, quantity, **named)
    rows = {
        " and ".join(effect.keys): [
            Row(_named(level.values), level.effect.mean, level.effect.low, level.effect.high)
            for level in effect.levels
            if level.effect
        ]
        for effect in summary.effects
    }
    rows = {keys: levels for keys, levels in rows.items() if len(levels) > 1}
    if rows:
        found["effects"] = responses.effects(rows, quantity, **named)
    return found


def _named(values: dict[str, object]) -> str:
    """Name a level of an axis: the last part of each key, and the value."""
    return ", ".join(
        f"{key.removesuffix('.name').rpartition('.')[2]} {value_of(value)}"
        for key, value in values.items()
    )


def table(result: Result) -> str:
    """Return a CSV table with a row for each trial that ended or paused."""
    values = {point.label: point.values for point in result.settings.points}
    keys = result.settings.keys
    quantity = result.settings.base.objective.chosen.best
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *keys,
            "seed",
            "status",
            f"best_{quantity}",
            "best_epoch",
            "epochs",
            "train_seconds",
            "ran_on",
            "run",
        ]
    )
    for trial, ended, _ in result.trials:
        out, mine = ended.outcome, values[trial.label]
        writer.writerow(
            [
                *(mine[key] for key in keys),
                *(out.seed, out.status, out.best, out.best_epoch, out.epochs),
                *(round(out.train_seconds, 3), out.ran_on, trial.run_name),
            ]
        )
    for trial, rows in result.paused.items():
        top = max(rows[1::2], key=lambda row: row.terms[quantity])
        seconds = round(sum(row.seconds for row in rows[::2]), 3)
        numbers = (top.terms[quantity], top.epoch, len(rows) // 2, seconds)
        mine = values[trial.label]
        seed = trial.settings.seed
        writer.writerow([*(mine[k] for k in keys), seed, "paused", *numbers, "", trial.run_name])
    return text.getvalue()
