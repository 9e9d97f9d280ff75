"""Writes what a run comes to, as it comes."""

import contextlib
import hashlib
import shlex
from collections.abc import Callable
from typing import Literal, final

import jax
import jax.numpy as jnp

from vaectl import config, configfile
from vaectl.checkpoints import Checkpoints, Info
from vaectl.errors import RunError
from vaectl.fitting import Chunk, Epoch
from vaectl.record import Best, Record, Row, now
from vaectl.rundir import RunDir, metrics_lines
from vaectl.training import TrainState


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
    ) -> None:
        self.rundir = rundir
        self.record = record
        self.rows = rows
        self._settings = settings
        self._digest = hashlib.sha256(metrics_lines(rows).encode())
        """Of the lines of metrics.csv so far."""
        self._best = best
        self._unsaved: TrainState | None = None
        """The best state, until it is on disk."""

    def begin(self) -> None:
        """Write what is known before training."""
        header = f"the resolved configuration of {self.rundir.name}; to repeat it:\n"
        header += f"vaectl train {shlex.quote(str(self.rundir.path / 'config.yaml'))}"
        self.rundir.write_config(configfile.dump(self._settings, header))
        self.rundir.write_record(self.record)
        # whole, and so cut back to where a resumed run goes on; from here on it grows
        self.rundir.write_metrics(self.rows)

    def epoch(self, epoch: Epoch) -> None:
        """Write an epoch's metrics, and remember its state if it is the best so far."""
        self.rows += epoch.rows
        validation = epoch.validation
        self.rundir.append_metrics(epoch.rows)
        self._digest.update(metrics_lines(epoch.rows).encode())
        best = self.record.best
        if best is None or validation.elbo > best.validation_elbo:
            best = Best(epoch=epoch.epoch, validation_elbo=validation.elbo)
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
        from vaectl import figures  # matplotlib takes half a second, which the first epoch need not

        if self.rows:
            samples = self._settings.objective.samples
            how = f"{samples} sample{'s' * (samples > 1)} of z per image"
            title = f"{self.rundir.name}\n{how}, {self.record.metrics['binarization']}"
            for quantity in figures.LABELS:
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
        height, width = self.record.data["image_shape"]
        if isinstance(event, Epoch):
            return Info(
                epoch=event.epoch,
                step=event.step,
                validation_elbo=event.validation.elbo,
                best=event.step if best is None else best,
                image_shape=(height, width),
                metrics=self._digest.hexdigest(),
            )
        kl, nll = event.sums.tolist()
        return Info(
            epoch=event.epoch - 1,
            step=event.step,
            beyond=event.beyond,
            sums=(kl, nll),
            seconds=event.seconds,
            validation_elbo=None,
            best=best,
            image_shape=(height, width),
            metrics=self._digest.hexdigest(),
        )


def _text(error: str) -> str:
    """What JSON can hold of a message: names of files need not be text."""
    return error.encode(errors="backslashreplace").decode()
