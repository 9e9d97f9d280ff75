"""trials.csv and curves.csv: the trials of a comparison, for people and spreadsheets.

trials.csv    one row per trial
curves.csv    one row per trial, epoch and split

Nothing depends on them: they are made from the sealed trials, and made again where they differ.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from vaectl.comparison.ended import Ended, Outcome
from vaectl.errors import RunError, remedy
from vaectl.files import Folder
from vaectl.record import Row


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


_KINDS: dict[str, type[NamedTuple]] = {"trials.csv": Outcome, "curves.csv": _Point}
NAMES = tuple(_KINDS)


def text(name: str, trials: Iterable[Ended], *, header: bool = True) -> str:
    """The rows of trials as a view has them.

    Args:
        name: of the view.
        trials: whose rows.
        header: whether the names of the columns come first.
    """
    result = io.StringIO()
    writer = csv.writer(result, lineterminator="\n")
    if header:
        writer.writerow(_KINDS[name]._fields)
    for trial in trials:
        points = [_Point(trial.key, *row) for row in trial.rows]
        writer.writerows([trial.outcome] if name == "trials.csv" else points)
    return result.getvalue()


def read(
    directory: Folder, tell: Callable[[str], None]
) -> tuple[dict[str, Outcome], dict[str, list[Row]]]:
    """Read both views: outcomes and curves by the keys of the trials.

    Args:
        directory: of the comparison.
        tell: told of each line that is no row, and left out.

    Raises:
        RunError: one cannot be read, or is another table.
    """
    outcomes: dict[str, Outcome] = {
        row.key: row for row in _read(directory, "trials.csv", Outcome, tell)
    }
    curves: dict[str, list[Row]] = {key: [] for key in outcomes}
    for key, *values in _read(directory, "curves.csv", _Point, tell):
        # a trial counts once its own row is there
        if key in curves:
            curves[key].append(Row(*values))
    return outcomes, curves


def _read(
    directory: Folder, name: str, kind: type[Any], tell: Callable[[str], None]
) -> Iterator[Any]:
    """Read rows, each value by the type of its column; none where there is no file."""
    path = directory.path / name
    adapter = TypeAdapter(kind)
    try:
        with io.TextIOWrapper(directory.open(name), "utf-8", newline="") as lines:
            table = csv.reader(lines)
            if tuple(next(table, ())) != kind._fields:
                raise ValueError("other columns")
            for values in table:
                try:
                    pairs = zip(kind._fields, values, strict=True)
                    row = {
                        name: value or ("" if name == "error" else None) for name, value in pairs
                    }
                    yield adapter.validate_python(row)
                except ValueError:
                    tell(f"{path}:{table.line_num}: not a row of this table: left out")
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}", hint=remedy(error)) from None
    except (ValueError, csv.Error):
        raise RunError(
            f"{path}: not the trials of a comparison of this vaectl",
            hint="put it back from a copy, or begin again with --force",
        ) from None
