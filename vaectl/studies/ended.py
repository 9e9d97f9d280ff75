"""The results of a trial, and of its best model on the test split: typed and checked.

Both are read from files that may have been changed, so their consistency is checked: every epoch
occurs once, an ELBO is -(NLL + KL), and the run beside them has the same numbers.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from vaectl.base import seals
from vaectl.members.places import CHECKPOINTS, FILES, checkpoint_file
from vaectl.objectives.base import with_elbo
from vaectl.runs import metrics
from vaectl.runs.metrics import SPLITS, Row, StoredRow
from vaectl.runs.record import Evaluation, Part, Positive, Record
from vaectl.runs.saved import Info
from vaectl.studies.facts import kind
from vaectl.studies.trial import Stage

FORMAT_VERSION = 3

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Outcome(NamedTuple):
    """The numbers of a trial on the validation split: one line of trials.csv."""

    key: str
    label: str
    stage: Stage
    optimizer: str
    learning_rate: float
    seed: int
    status: Literal["finished", "diverged"]
    epochs: int
    """The number of epochs that ended."""
    final_elbo: float | None
    """The ELBO of the last epoch, in nats per image."""
    best_elbo: float | None
    """The ELBO of the best epoch."""
    best_epoch: int | None
    train_seconds: float
    error: str
    quantity: str = "elbo"
    """The number that says which epoch is best; see `Objective.best`."""
    best: float | None = None
    """The highest value of that number."""
    ran_on: str = ""
    """The hardware and software that its last bits depend on."""

    @property
    def score(self) -> float:
        """The value by which the trial is judged: the best one, and -inf if it diverged."""
        return -math.inf if self.status == "diverged" or self.best is None else self.best


class Ended(Part):
    """A trial that ended, as trials/KEY.json holds it: its curve and the small files of its run.

    All numbers of the trial follow from the curve.
    """

    format_version: int = FORMAT_VERSION
    key: Key
    """`Trial.key`."""
    number: Positive
    """Trials are listed in the order in which they ended."""
    label: str
    """The label of its optimizer when it ended."""
    stage: Stage
    optimizer: str
    learning_rate: float
    seed: int
    error: str
    """The reason why it diverged; empty if it finished."""
    quantity: str = "elbo"
    """The number that says which epoch is best."""
    rows: list[StoredRow]
    """Two of each epoch that ended: training, then validation."""
    files: dict[str, str] = Field({})
    """The small files of the run of a trial of the result, by their paths in it, as text."""

    @property
    def epochs(self) -> int:
        """The number of epochs that ended."""
        return len(self.rows) // 2

    @cached_property
    def best(self) -> Row | None:
        """The best epoch on the validation split, the earliest of equals."""
        return max(self.rows[1::2], key=lambda row: row.terms[self.quantity], default=None)

    @cached_property
    def outcome(self) -> Outcome:
        """The numbers of the trial, which all follow from its rows."""
        return Outcome(
            key=self.key,
            label=self.label,
            stage=self.stage,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            seed=self.seed,
            status="diverged" if self.error else "finished",
            epochs=self.epochs,
            final_elbo=self.rows[-1].terms.get("elbo") if self.rows else None,
            best_elbo=self.best.terms.get("elbo") if self.best else None,
            best_epoch=self.best.epoch if self.best else None,
            train_seconds=sum(row.seconds for row in self.rows[::2]),
            error=self.error,
            quantity=self.quantity,
            best=self.best.terms[self.quantity] if self.best else None,
            ran_on=kind(record) if (record := self.record) else "",
        )

    @property
    def record(self) -> Record | None:
        """The content of run.json; None for a trial of the tuning, which leaves no run.

        It is parsed at each call: keeping it for each of many trials would fill the memory.
        """
        return Record.model_validate_json(self.files["run.json"]) if self.files else None

    @property
    def checkpoints(self) -> list[Info]:
        """The descriptions of the run's checkpoints, the best and the last among them."""
        files = [text for name, text in self.files.items() if name.startswith(CHECKPOINTS)]
        return [Info.model_validate_json(text) for text in files]

    @property
    def checkpoint(self) -> Info | None:
        """The description of the best epoch's checkpoint; None if there is none."""
        return next((i for i in self.checkpoints if self.best and i.step == self.best.step), None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        steps = self.rows[0].step if self.rows else 1
        epochs = range(1, self.epochs + 1)
        places = [(epoch, epoch * steps, split) for epoch in epochs for split in SPLITS]
        if steps < 1 or [(row.epoch, row.step, row.split) for row in self.rows] != places:
            raise ValueError("an epoch is missing, or there twice")
        if any(dict(row.terms) != with_elbo(row.terms) or row.seconds < 0 for row in self.rows):
            raise ValueError("an ELBO is not -(NLL + KL), or a time is negative")
        if any(self.quantity not in row.terms for row in self.rows[1::2]):
            raise ValueError(f"an epoch has no {self.quantity}")
        if not self.rows and not self.error:
            raise ValueError("it finished without an epoch")
        if self.stage == "tuning":
            if self.files:
                raise ValueError("a trial of the tuning has a run")
            return self
        self._check_files()
        self._check_record()
        file = self.files["metrics.csv"]
        names = file.partition("\n")[0].split(",")[len(metrics.FIRST) : -1]
        whole = {*metrics.columns(self.rows)} <= {*names}
        if not whole or file != metrics.header(names) + metrics.lines(self.rows, names):
            raise ValueError("metrics.csv has another curve")
        return self

    def _check_files(self) -> None:
        names, found = {name for name in self.files if name not in FILES}, self.checkpoints
        if not {*FILES} <= {*self.files} or names != {checkpoint_file(info.step) for info in found}:
            raise ValueError("not the files of a run")
        for name in names:
            seals.check(self.files[name].encode())
        for info in found:
            row = self.rows[2 * info.epoch - 1] if 0 < info.epoch <= self.epochs else None
            known = row and (row.step, row.terms[self.quantity])
            if not info.beyond and (info.step, info.score) != known:
                raise ValueError("a checkpoint is not of one of the epochs")
        if self.best and not self.checkpoint:
            raise ValueError("the checkpoint is not of the best epoch")

    def _check_record(self) -> None:
        record, best = self.record, self.best
        if record is None:
            return
        found = record.seed, record.epoch, record.status, record.error or ""
        status = "failed" if self.error else "finished"
        if found != (self.seed, self.epochs, status, self.error):
            raise ValueError("run.json says otherwise")
        told = record.best and (record.best.epoch, record.best.score)
        if told != (best and (best.epoch, best.terms[self.quantity])):
            raise ValueError("run.json has another best epoch")


class Tested(Part):
    """The evaluation of a trial's best model on the test split: trials/KEY.test.json."""

    format_version: int = FORMAT_VERSION
    key: Key
    checkpoint: str
    """The digest of the checkpoint that was evaluated."""
    evaluation: Evaluation
