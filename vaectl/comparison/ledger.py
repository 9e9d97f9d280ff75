"""The trials that ended, on disk as soon as they did: what is there is never computed again.

trials.csv    one row per trial
curves.csv    one row per trial, epoch and split

Each is written whole and renamed into place, the curves first: a process that is killed at any
moment leaves all trials but the one it was at.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

from pydantic import TypeAdapter

from vaectl.errors import RunError
from vaectl.files import regular, replacing
from vaectl.record import Row


class Outcome(NamedTuple):
    """What a trial came to: one line of trials.csv; ELBOs of validation, in nats per image."""

    key: str
    label: str
    stage: Literal["tuning", "result"]
    optimizer: str
    learning_rate: float
    seed: int
    status: Literal["finished", "diverged"]
    epochs: int
    """That ended."""
    final_elbo: float | None
    best_elbo: float | None
    best_epoch: int | None
    train_seconds: float
    error: str

    @property
    def score(self) -> float:
        """What it is judged by: its best validation ELBO, and -inf where it diverged."""
        if self.status == "diverged" or self.best_elbo is None:
            return -math.inf
        return self.best_elbo


class _Point(NamedTuple):
    """One line of curves.csv."""

    key: str
    epoch: int
    step: int
    split: Literal["train", "validation"]
    elbo: float
    kl: float
    nll: float
    seconds: float


@final
class Ledger:
    """The trials of one comparison, by their keys, in the order in which they ended."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.outcomes: dict[str, Outcome] = {row.key: row for row in self._read(Outcome)}
        self.curves: dict[str, list[Row]] = {key: [] for key in self.outcomes}
        for key, *values in self._read(_Point):
            # a trial counts once its row is there: before, it was being written
            if key in self.curves:
                self.curves[key].append(Row(*values))

    def add(self, outcome: Outcome, curve: Sequence[Row]) -> None:
        """Write down a trial that ended."""
        self.curves[outcome.key] = list(curve)
        self.outcomes[outcome.key] = outcome
        points = [_Point(key, *row) for key, rows in self.curves.items() for row in rows]
        self._write(_Point, points)
        self._write(Outcome, self.outcomes.values())

    def _path(self, kind: type[NamedTuple]) -> Path:
        return self._directory / ("trials.csv" if kind is Outcome else "curves.csv")

    def _read(self, kind: type[Any]) -> list[Any]:
        """Read rows, each value by the type of its column.

        Raises:
            RunError: it cannot be read, or is broken.
        """
        path = self._path(kind)
        try:
            with io.TextIOWrapper(regular(path), "utf-8", newline="") as lines:
                table = csv.DictReader(lines)
                rows = [
                    {key: value or (None if key != "error" else "") for key, value in row.items()}
                    for row in table
                ]
            if tuple(table.fieldnames or ()) != kind._fields:
                raise ValueError(table.fieldnames)
            found: list[Any] = TypeAdapter(list[kind]).validate_python(rows)  # type: ignore[valid-type]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, csv.Error):
            raise RunError(
                f"{path}: not the trials of a comparison of this vaectl",
                hint="mend it, or begin again with --force",
            ) from None
        return found

    def _write(self, kind: type[Any], rows: Iterable[tuple[object, ...]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(kind._fields)
        writer.writerows(rows)
        write(self._path(kind), text.getvalue())


def write(path: Path, text: str) -> None:
    """Write a file of a comparison whole, or leave what was there.

    Raises:
        RunError: it cannot be written.
    """
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> RunError:
    """Say that something in a comparison's directory cannot be written."""
    return RunError(
        f"{path}: cannot be written: {error.strerror}",
        hint="what was written before is intact; the same command continues after it",
    )
