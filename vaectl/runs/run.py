"""A run, for programs and notebooks."""

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
    """A run directory as it is now: its settings, its record, its metrics, its models."""

    def __init__(self, directory: RunDir) -> None:
        self._directory = directory

    @property
    def path(self) -> Path:
        """Its directory."""
        return self._directory.path

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self._directory.name

    @cached_property
    def config(self) -> Config:
        """Its configuration."""
        return self._directory.read_config()

    @property
    def record(self) -> Record:
        """What run.json says."""
        return self._directory.read_record()

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """metrics.csv by columns; what a row does not have is NaN. `pandas.DataFrame` takes it."""
        rows = self._directory.read_metrics()
        return {
            "epoch": np.array([row.epoch for row in rows]),
            "step": np.array([row.step for row in rows]),
            "split": np.array([row.split for row in rows]),
            **{
                name: np.array([row.terms.get(name, np.nan) for row in rows])
                for name in metrics.columns(rows)
            },
            "seconds": np.array([row.seconds for row in rows]),
        }

    def model(self, checkpoint: str | int = "best") -> Trained:
        """Load a model of it: see `vaectl.load`."""
        from vaectl.runs import trained

        return trained.load(self._directory, checkpoint)

    def __repr__(self) -> str:
        record = self.record
        best = record.best
        at = f", best {best.quantity} {best.score:.2f} at epoch {best.epoch}" if best else ""
        return f"<Run {self.path}: {record.status}, {record.epoch}/{record.epochs} epochs{at}>"

    def _repr_png_(self) -> bytes:
        """Draw the curve of what says which epoch is best, for a notebook."""
        from vaectl.pictures import figures

        record = self.record
        quantity = record.best.quantity if record.best else "elbo"
        figure = figures.curves(self._directory.read_metrics(), quantity, title=self.name)
        return figures.png(figure)
