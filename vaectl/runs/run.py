"""A run, for use from Python and in notebooks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from vaectl.config.schema import Config
from vaectl.runs import metrics
from vaectl.runs.directory import RunDir
from vaectl.runs.record import Record

if TYPE_CHECKING:
    from vaectl.runs.trained import Trained


@final
class Run:
    """A run: its configuration, its record, its metrics and its models."""

    def __init__(self, directory: RunDir) -> None:
        self._directory = directory

    @property
    def path(self) -> Path:
        """The run's directory."""
        return self._directory.path

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self._directory.name

    @cached_property
    def config(self) -> Config:
        """The run's configuration."""
        return self._directory.read_config()

    @property
    def record(self) -> Record:
        """The current contents of run.json."""
        return self._directory.read_record()

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """The columns of metrics.csv as arrays, for `pandas.DataFrame`; missing values are NaN."""
        rows = self._directory.read_metrics()
        names = [*metrics.FIRST, *metrics.columns(rows), metrics.LAST]
        flat = [row.flat() for row in rows]
        return {name: np.array([row.get(name, np.nan) for row in flat]) for name in names}

    def model(self, checkpoint: str | int = "best") -> Trained:
        """Load the model of a checkpoint: see `vaectl.load`."""
        from vaectl.runs import trained

        return trained.load(self._directory, checkpoint)

    def __repr__(self) -> str:
        record = self.record
        best = record.best
        at = f", best {best.quantity} {best.score:.2f} at epoch {best.epoch}" if best else ""
        done = "" if record.imported else f", {record.epoch}/{record.epochs} epochs"
        return f"<Run {self.path}: {record.status}{done}{at}>"

    def _repr_png_(self) -> bytes:
        """Draw the curve of the term that marks the best epoch, for a notebook."""
        from vaectl.pictures import canvas, figures

        record = self.record
        quantity = record.best.quantity if record.best else "elbo"
        figure = figures.curves(self._directory.read_metrics(), quantity, title=self.name)
        return canvas.png(figure)
