"""trials.csv and curves.csv: the trials of a comparison, for people and spreadsheets.

trials.csv    one row per trial
curves.csv    one row per trial, epoch and split

They are written from the sealed trials, and written again if they differ from them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from vaectl.base.errors import RunError
from vaectl.base.files import Folder
from vaectl.runs import metrics
from vaectl.runs.metrics import Row
from vaectl.studies.ended import Ended, Outcome

NAMES = ("trials.csv", "curves.csv")

_OLD = [name for name in Outcome._fields if name not in Outcome._field_defaults]
"""The columns of trials.csv of the oldest vaectl."""


def older(name: str) -> list[list[str]]:
    """Return the lists of columns of a view in older versions of vaectl."""
    later = [name for name in Outcome._fields if name not in (*_OLD, "ran_on")]
    return [_OLD, [*_OLD, *later]] if name == "trials.csv" else []


def columns(name: str, trials: Iterable[Ended]) -> list[str]:
    """Return the columns of a view.

    Args:
        name: the name of the view.
        trials: the trials that it shows.
    """
    if name == "trials.csv":
        return list(Outcome._fields)
    numbers = metrics.columns([row for trial in trials for row in trial.rows])
    return ["key", "epoch", "step", "split", *(numbers or ["elbo", "kl", "nll"]), "seconds"]


def text(name: str, trials: Iterable[Ended], columns: Sequence[str], *, header: bool = True) -> str:
    """Return the text of a view, or of rows to add to it.

    Args:
        name: the name of the view.
        trials: the trials whose rows it has.
        columns: its columns.
        header: whether the first line has the names of the columns.
    """
    if name == "trials.csv":
        table = [trial.outcome._asdict() for trial in trials]
    else:
        table = [{"key": trial.key, **row.flat()} for trial in trials for row in trial.rows]
    result = io.StringIO()
    writer = csv.DictWriter(result, columns, extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(table)
    return result.getvalue()


def read(
    directory: Folder, tell: Callable[[str], None]
) -> tuple[dict[str, Outcome], dict[str, list[Row]]]:
    """Read both views of an older vaectl: outcomes and curves, by the keys of the trials.

    Args:
        directory: the comparison's directory.
        tell: called with a message for each line that is skipped.

    Raises:
        RunError: a view cannot be read, or has other columns.
    """
    found = _read(directory, "trials.csv", Outcome, tell)
    outcomes: dict[str, Outcome] = {row.key: row._replace(best=row.best_elbo) for row in found}
    curves: dict[str, list[Row]] = {key: [] for key in outcomes}
    point: _Point
    for point in _read(directory, "curves.csv", _Point, tell):
        # a trial counts once it has a row in trials.csv
        if point.key in curves:
            terms = {"elbo": point.elbo, "kl": point.kl, "nll": point.nll}
            row = Row(point.epoch, point.step, point.split, terms, point.seconds)
            curves[point.key].append(row)
    return outcomes, curves


class _Point(NamedTuple):
    """One line of the curves.csv of an older vaectl."""

    key: str
    epoch: int
    step: int
    split: Literal["train", "validation"]
    elbo: float
    kl: float
    nll: float
    seconds: float


def _read(
    directory: Folder, name: str, kind: type[Any], tell: Callable[[str], None]
) -> Iterator[Any]:
    """Yield rows with typed values; none if there is no file."""
    path = directory.path / name
    adapter = TypeAdapter(kind)
    columns = _OLD if kind is Outcome else list(kind._fields)
    try:
        with io.TextIOWrapper(directory.open(name), "utf-8", newline="") as lines:
            table = csv.reader(lines)
            if next(table, []) != columns:
                raise ValueError("other columns")
            for values in table:
                try:
                    pairs = zip(columns, values, strict=True)
                    row = {
                        name: value or ("" if name == "error" else None) for name, value in pairs
                    }
                    yield adapter.validate_python(row)
                except ValueError:
                    tell(f"{path}:{table.line_num}: not a row of this table: skipped")
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError.of(error, path) from None
    except (ValueError, csv.Error):
        raise RunError(
            f"{path}: not the trials of a comparison of this vaectl",
            hint="restore it from a copy, or start again with --force",
        ) from None
