"""report.html: a sweep on one page without external files."""

from __future__ import annotations

from collections.abc import Mapping

from vaectl.base.values import written as value_written
from vaectl.objectives.base import label
from vaectl.studies import page
from vaectl.studies.statistics import shown, told_outliers
from vaectl.sweeps.plan import Sweep
from vaectl.sweeps.summary import Summary, told_pairs, written

MOST_ROWS = 200
"""The most points in the page's table; points.csv has all of them."""
CAPTIONS = {
    "effects": "Main effects: what each value adds, on average over all other values and seeds; "
    "lines are intervals over seeds. Most important first.",
    "responses": "Responses: every trial as a dot; lines are means of the trials that trained, or "
    "medians of parts of a drawn range. Crosses: trials that diverged; triangles: lower scores "
    "than the axis shows.",
    "parallel": "Points as lines across their values; the colour is the mean score over seeds, as "
    "on the axis of scores, and the best is black. Dashed: points that diverged at a seed.",
}


def render(summary: Summary, settings: Sweep, images: Mapping[str, bytes]) -> str:
    """Return the page with verdict, best point, effects, figures, table, settings, environment.

    Args:
        summary: the results.
        settings: the sweep's configuration.
        images: SVG images, by the name of the figure.
    """
    return page.render(
        "vaectl.sweeps",
        settings=settings,
        file="sweep.yaml",
        summary=summary,
        kinds_told=told_pairs(summary),
        outliers=told_outliers(map(shown, written(summary, MOST_ROWS))),
        term=label(summary.quantity),
        shown=shown,
        value_of=value_written,
        ranked=summary.ranked[:MOST_ROWS],
        images=page.embedded({name: images[name] for name in CAPTIONS if name in images}),
        captions=CAPTIONS,
    )
