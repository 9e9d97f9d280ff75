"""The default figures of a run: its numbers by epoch."""

from collections.abc import Sequence

from vaectl import config
from vaectl.config.meaning import estimators
from vaectl.runs.directory import RunDir
from vaectl.runs.metrics import Row
from vaectl.runs.metrics import columns as columns_of
from vaectl.runs.record import Record

FORMATS = ("png", "svg")
"""The formats of the figures that each run gets by default."""

CURVES = "curves"
"""The name of the figure of all curves."""


def draw(rundir: RunDir, settings: config.Config, record: Record, rows: Sequence[Row]) -> None:
    """Draw the numbers of a run by epoch: each of them, and all side by side.

    Raises:
        RunError: a figure cannot be written.
    """
    from vaectl.pictures import figures  # Matplotlib takes half a second to import

    how = estimators(settings)
    title = f"{rundir.name}\n{record.meaning}"
    names = columns_of(rows)
    for name, drawn in {CURVES: names, **{name: [name] for name in names}}.items():
        rundir.write_figure(name, figures.curves(rows, *drawn, title=title, how=how), FORMATS)
