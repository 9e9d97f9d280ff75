"""trials.csv and curves.csv: the trials of a comparison, for people and spreadsheets.

trials.csv    one row per trial
curves.csv    one row per trial, epoch and split

Nothing depends on them: they are made from the sealed trials, and made again where they differ.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from vaectl.comparison.ended import Ended, Outcome
from vaectl.errors import RunError
from vaectl.files import regular
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


def read(directory: Path) -> tuple[dict[str, Outcome], dict[str, list[Row]]]:
    """Read both views: outcomes and curves by the keys of the trials.

    Raises:
        RunError: one cannot be read, or is broken.
    """
    outcomes: dict[str, Outcome] = {row.key: row for row in _read(directory, "trials.csv")}
    curves: dict[str, list[Row]] = {key: [] for key in outcomes}
    for key, *values in _read(directory, "curves.csv"):
        # a trial counts once its own row is there
        if key in curves:
            curves[key].append(Row(*values))
    return outcomes, curves


def _read(directory: Path, name: str) -> Sequence[Any]:
    """Read rows, each value by the type of its column; none where there is no file."""
    path, kind = directory / name, _KINDS[name]
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
