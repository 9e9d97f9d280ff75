"""The one writer of a run's directory while it trains, alone or as a member of a comparison."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

from vaectl import config
from vaectl.base import mesh
from vaectl.base.errors import RunError
from vaectl.config import documents
from vaectl.objectives.base import label
from vaectl.runs import metrics
from vaectl.runs.checkpoints import Checkpoints
from vaectl.runs.directory import RunDir
from vaectl.runs.metrics import Digest, Row
from vaectl.runs.record import Best, Record, now
from vaectl.runs.saved import Info
from vaectl.training import early
from vaectl.training.fit import Chunk, Epoch
from vaectl.training.program import TrainState
from vaectl.training.status import Status


@final
class Recorder:
    """Writes a run while it trains: its record, its metrics, its checkpoints.

    Checkpoints are saved within the context of `saving`.
    """

    def __init__(
        self,
        rundir: RunDir,
        settings: config.Config,
        record: Record,
        columns: Sequence[str],
        *,
        rows: Sequence[Row] = (),
        best: Info | None = None,
        unrounded: bool = False,
    ) -> None:
        """Take up a run.

        Args:
            rundir: its directory.
            settings: its configuration.
            record: its current record.
            columns: the names of the numbers that its epochs report.
            rows: the metrics that a resumed run has already.
            best: its best checkpoint so far.
            unrounded: whether the metrics are kept unrounded too; then `rows` must be so.
        """
        self.rundir = rundir
        self.record = record
        self.rows = list(rows)
        self._settings = settings
        self._columns = list(dict.fromkeys([*metrics.columns(rows), *columns]))
        self._digest = Digest(rows)
        self._quantity = settings.objective.chosen.best
        self._best = best
        self._unrounded = unrounded
        self._unsaved: TrainState | None = None
        """The best state, until it is on disk."""
        keep_all = settings.checkpoint.keep == "all"
        self._checkpoints = Checkpoints(rundir.checkpoints, keep_all=keep_all)
        self._saved, self._saved_step = time.monotonic(), -1

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Save checkpoints in the background; at the end the best state is saved too.

        Raises:
            RunError: something cannot be saved.
        """
        with self._checkpoints:
            try:
                yield
            except RunError:
                raise
            except BaseException:
                with contextlib.suppress(RunError):  # the first error matters more
                    self._save_best()
                raise
            self._save_best()

    def begin(self, header: str) -> None:
        """Write what is known before training.

        Args:
            header: the first lines of config.yaml, as a comment.
        """
        self.rundir.write_config(documents.dump(self._settings, header))
        self.rundir.write_record(self.record)
        # whole, and so cut back to where a resumed run goes on; from here on it grows
        self.rundir.write_metrics(self.rows, self._columns)
        if self._unrounded:
            self.rundir.write_unrounded(self.rows)

    def take(self, event: Chunk | Epoch) -> None:
        """Write an epoch's metrics, and keep its state if it is the best so far.

        Raises:
            RunError: they cannot be written.
        """
        if not isinstance(event, Epoch):
            return
        rows = rows_of(event)
        self.rows += rows
        self.rundir.append_metrics(rows, self._columns)
        if self._unrounded:
            self.rundir.append_unrounded(rows)
        self._digest.add(rows)
        best, score = self.record.best, event.validation[self._quantity]
        if best is None or score > best.score:
            best = Best(epoch=event.epoch, quantity=self._quantity, score=score)
            # a copy: the state itself is donated to the next epoch
            self._best, self._unsaved = self._info(event), mesh.copied(event.state)
        self.record = self.record.model_copy(update={"best": best, "epoch": event.epoch})

    def save_if_due(self, event: Chunk | Epoch) -> None:
        """Save the state if the last save is long enough ago.

        Call `take` first: a checkpoint goes with the metrics of its epoch.

        Raises:
            RunError: it cannot be written.
        """
        wanted = self._settings.checkpoint
        due = time.monotonic() - self._saved >= (wanted.every_seconds or math.inf)
        if isinstance(event, Epoch):
            due = due or event.epoch % wanted.every == 0 or event.epoch == self._settings.epochs
        if due:
            self.save(event)

    def save(self, event: Chunk | Epoch) -> None:
        """Save the best state and the latest, which may be the same; what was saved stays.

        The metrics until then, and the record, are made durable before the checkpoint counts. A
        background thread does that while training goes on.

        Raises:
            RunError: it cannot be written.
        """
        if event.step == self._saved_step:
            return
        if self._best is not None and self._best.step == event.step:
            self._unsaved = None
        self._save_best()
        best = self._best.step if self._best else None
        self._checkpoints.save(event.state, self._info(event, best), self._first())
        self._saved, self._saved_step = time.monotonic(), event.step

    def stops_early(self) -> str | None:
        """Say why the run ends now, before its last epoch; None if it does not."""
        wanted, record = self._settings.early_stopping, self.record
        if wanted.patience is None or record.epoch >= self._settings.epochs:
            return None
        scores = [
            # rounded as in metrics.csv, from which a resumed run reads them
            round(row.terms[self._quantity], metrics.DECIMALS)
            for row in self.rows
            if row.split == "validation"
        ]
        last = early.last_gain(scores, wanted.min_delta)
        if record.epoch - max(last, record.patience_from) < wanted.patience:
            return None
        by = f" by more than {wanted.min_delta:g}" if wanted.min_delta else ""
        return (
            f"stopped early after epoch {record.epoch}: no validation {label(self._quantity)} "
            f"better{by} than {scores[last - 1]:.2f} of epoch {last}"
        )

    def end(self, status: Status, error: str = "") -> None:
        """Write the last record; for a failed run, ignore errors of writing.

        Raises:
            RunError: the run has finished, and that cannot be written.
        """
        stopped = self.stops_early() if status == "finished" else None
        self.record = self.record.model_copy(
            update={
                "status": status,
                "error": _text(error) or None,
                "end": now(),
                "stopped": stopped,
            }
        )
        with contextlib.suppress(RunError) if status != "finished" else contextlib.nullcontext():
            self.rundir.write_record(self.record)

    def _save_best(self) -> None:
        """Save the best state, unless it is on disk."""
        if self._best is not None and self._unsaved is not None:
            self._checkpoints.save(self._unsaved, self._best, self._first())
            self._unsaved = None

    def _first(self) -> Callable[[], None]:
        """Return what makes the metrics and the present record durable before a checkpoint."""
        record = self.record

        def first() -> None:
            self.rundir.sync_metrics(unrounded=self._unrounded)
            self.rundir.write_record(record)

        return first

    def _info(self, event: Chunk | Epoch, best: int | None = None) -> Info:
        """Return the description of a checkpoint; without `best`, its state is the best one."""
        of_event: dict[str, Any]
        if isinstance(event, Epoch):
            score = event.validation[self._quantity]
            best = event.step if best is None else best
            of_event = {"epoch": event.epoch, "score": score}
        else:
            of_event = {"epoch": event.epoch - 1, "score": None, "seconds": event.seconds}
            of_event |= {"beyond": event.beyond, "sums": event.sums, "began": event.began}
        return Info(
            step=event.step,
            quantity=self._quantity,
            best=best,
            image_shape=self.record.data["image_shape"],
            metrics=self._digest.hexdigest(),
            **of_event,
        )


def rows_of(epoch: Epoch) -> list[Row]:
    """Return the two rows of an epoch."""
    return [
        Row(epoch.epoch, epoch.step, "train", epoch.train, epoch.train_seconds),
        Row(epoch.epoch, epoch.step, "validation", epoch.validation, epoch.validation_seconds),
    ]


def _text(error: str) -> str:
    """Return a message that JSON can hold: names of files may not be valid text."""
    return error.encode(errors="backslashreplace").decode()
