"""Writes what a run comes to, as it comes."""

import contextlib
import shlex
from collections.abc import Callable, Sequence
from typing import Literal, final

import jax
import jax.numpy as jnp

from vaectl import config
from vaectl.base.errors import RunError
from vaectl.config import reading
from vaectl.runs import metrics
from vaectl.runs.checkpoints import Checkpoints, Info
from vaectl.runs.directory import RunDir
from vaectl.runs.metrics import Digest, Row
from vaectl.runs.record import Best, Record, now
from vaectl.training.fit import Chunk, Epoch
from vaectl.training.program import TrainState


@final
class Recorder:
    """The account of a run that goes on: its record, its metrics, its best state."""

    def __init__(
        self,
        rundir: RunDir,
        settings: config.Config,
        record: Record,
        rows: list[Row],
        best: Info | None,
        columns: Sequence[str],
    ) -> None:
        self.rundir = rundir
        self.record = record
        self.rows = rows
        self._settings = settings
        self._columns = list(dict.fromkeys([*metrics.columns(rows), *columns]))
        self._digest = Digest(rows)
        self._quantity = settings.objective.chosen.best
        self._best = best
        self._unsaved: TrainState | None = None
        """The best state, until it is on disk."""

    def begin(self) -> None:
        """Write what is known before training."""
        header = f"the resolved configuration of {self.rundir.name}; to repeat it:\n"
        header += f"vaectl train {shlex.quote(str(self.rundir.path / 'config.yaml'))}"
        self.rundir.write_config(reading.dump(self._settings, header))
        self.rundir.write_record(self.record)
        # whole, and so cut back to where a resumed run goes on; from here on it grows
        self.rundir.write_metrics(self.rows, self._columns)

    def epoch(self, epoch: Epoch) -> None:
        """Write an epoch's metrics, and remember its state if it is the best so far."""
        rows = rows_of(epoch)
        self.rows += rows
        self.rundir.append_metrics(rows, self._columns)
        self._digest.add(rows)
        best, score = self.record.best, epoch.validation[self._quantity]
        if best is None or score > best.score:
            best = Best(epoch=epoch.epoch, quantity=self._quantity, score=score)
            # a copy: the state itself is donated to the next epoch
            self._best, self._unsaved = self._info(epoch), jax.tree.map(jnp.copy, epoch.state)
        self.record = self.record.model_copy(update={"best": best, "epoch": epoch.epoch})

    def save(self, checkpoints: Checkpoints, event: Chunk | Epoch) -> None:
        """Save the best state and the latest, which may be the same.

        The metrics until then, and the record, are durable before the checkpoint counts; the thread
        that saves sees to that, and training goes on.
        """
        if self._best is not None and self._best.step == event.step:
            self._unsaved = None
        self.save_best(checkpoints)
        best = self._best.step if self._best else None
        checkpoints.save(event.state, self._info(event, best), self._first())

    def save_best(self, checkpoints: Checkpoints) -> None:
        """Save the best state, unless it is on disk."""
        if self._best is not None and self._unsaved is not None:
            checkpoints.save(self._unsaved, self._best, self._first())
            self._unsaved = None

    def _first(self) -> Callable[[], None]:
        """What makes durable what a checkpoint goes with: the metrics, and the record of now."""
        record = self.record

        def first() -> None:
            self.rundir.sync_metrics()
            self.rundir.write_record(record)

        return first

    def draw(self) -> None:
        """Draw the curves."""
        from vaectl.pictures import (
            figures,  # matplotlib takes half a second, which the first epoch need not
        )

        if self.rows:
            samples = self._settings.objective.samples
            how = f"{samples} sample{'s' * (samples > 1)} of z per image"
            title = f"{self.rundir.name}\n{how}, {self.record.metrics['binarization']}"
            for quantity in metrics.columns(self.rows):
                figure = figures.curves(self.rows, quantity, title=title)
                self.rundir.write_figure(quantity, figure, ("png", "svg"))

    def end(self, status: Literal["finished", "interrupted", "failed"], error: str = "") -> None:
        """Write the last record; of a run that failed, if that can be done at all.

        Raises:
            RunError: the run has finished, and that cannot be written.
        """
        self.record = self.record.model_copy(
            update={"status": status, "error": _text(error) or None, "end": now()}
        )
        with contextlib.suppress(RunError) if status != "finished" else contextlib.nullcontext():
            self.rundir.write_record(self.record)

    def _info(self, event: Chunk | Epoch, best: int | None = None) -> Info:
        """What stands beside the checkpoint of a state; without `best`, of the best state."""
        shape = self.record.data["image_shape"]
        if isinstance(event, Epoch):
            return Info(
                epoch=event.epoch,
                step=event.step,
                quantity=self._quantity,
                score=event.validation[self._quantity],
                best=event.step if best is None else best,
                image_shape=shape,
                metrics=self._digest.hexdigest(),
            )
        return Info(
            epoch=event.epoch - 1,
            step=event.step,
            beyond=event.beyond,
            sums=event.sums,
            seconds=event.seconds,
            quantity=self._quantity,
            score=None,
            best=best,
            image_shape=shape,
            metrics=self._digest.hexdigest(),
        )


def rows_of(epoch: Epoch) -> list[Row]:
    """The two lines of metrics.csv of an epoch."""
    return [
        Row(epoch.epoch, epoch.step, "train", epoch.train, epoch.train_seconds),
        Row(epoch.epoch, epoch.step, "validation", epoch.validation, epoch.validation_seconds),
    ]


def _text(error: str) -> str:
    """What JSON can hold of a message: names of files need not be text."""
    return error.encode(errors="backslashreplace").decode()
