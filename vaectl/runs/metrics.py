"""metrics.csv: one row per epoch and split, with a column for each term.

Unknown columns are kept; missing ones are absent from the rows.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, TypeAdapter

SPLITS: dict[str, Literal["train", "validation"]] = {"train": "train", "validation": "validation"}
"""The splits in metrics.csv, in the order of an epoch's rows."""

UNROUNDED = "curve.jsonl"
"""The unrounded metrics of a member of a study. They are kept until its trial is sealed, so that
the run can go on, or finish once more, with the same bits."""

DECIMALS = 6
"""The decimals of a term in metrics.csv."""

MOST_OF_A_LINE = 2**16
"""Most bytes of a line of metrics.csv: a thousand terms with the longest names have less."""

FIRST, LAST = ("epoch", "step", "split"), "seconds"
_OLD = ("elbo", "kl", "nll")

Natural = Annotated[int, Field(ge=0, lt=2**63)]


class Row(NamedTuple):
    """A line of metrics.csv: means over a split, in nats per image."""

    epoch: Natural
    step: Natural
    split: Literal["train", "validation"]
    terms: Mapping[str, float]
    """Each term's mean, by name."""
    seconds: float

    def flat(self) -> dict[str, object]:
        """Return every column's value, by name."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "split": self.split,
            **self.terms,
            "seconds": self.seconds,
        }


def _grown(row: Any) -> Any:
    """Read a row of an older vaectl: epoch, step, split, ELBO, KL, NLL, seconds."""
    if isinstance(row, list | tuple) and len(row) == len(FIRST) + len(_OLD) + 1:
        return (*row[:3], dict(zip(_OLD, row[3:6], strict=True)), row[6])
    return row


StoredRow = Annotated[Row, BeforeValidator(_grown)]
"""A row in JSON: epoch, step, split, terms, seconds."""
_STORED: TypeAdapter[Row] = TypeAdapter(StoredRow)


def as_json(rows: Sequence[Row]) -> bytes:
    """Return rows as lines of JSON, unrounded."""
    return b"".join(_STORED.dump_json(row) + b"\n" for row in rows)


def from_json(content: bytes, count: int) -> list[Row]:
    """Return the first rows of lines of JSON.

    Raises:
        ValueError: one of them is not a row.
    """
    return [_STORED.validate_json(line) for line in content.splitlines()[:count]]


def columns(rows: Sequence[Row]) -> list[str]:
    """Return the names of all terms of the rows, in order."""
    return list(dict.fromkeys(itertools.chain.from_iterable(row.terms for row in rows)))


def header(names: Sequence[str]) -> str:
    """Return the first line."""
    return ",".join([*FIRST, *names, LAST]) + "\n"


def lines(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return the lines of rows, with columns of these names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        values = (f"{row.terms[name]:.{DECIMALS}f}" if name in row.terms else "" for name in names)
        writer.writerow([row.epoch, row.step, row.split, *values, f"{row.seconds:.3f}"])
    return text.getvalue()


class Digest:
    """The SHA-256 of rows, to which more rows, even with other columns, can be added."""

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self._rows: list[Row] = []
        self._columns: list[str] = []
        self._hash = hashlib.sha256()
        self.add(rows)

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows."""
        self._rows += rows
        if new := [name for name in columns(rows) if name not in self._columns]:
            self._columns += new
            # an older vaectl had these columns and hashed no header
            names = "" if tuple(self._columns) == _OLD else header(self._columns)
            self._hash, rows = hashlib.sha256(names.encode()), self._rows
        for row in rows:
            self._hash.update(lines([row], [*row.terms]).encode())

    def hexdigest(self) -> str:
        """Return the SHA-256."""
        return self._hash.hexdigest()


def digest(rows: Sequence[Row]) -> str:
    """Return the SHA-256 of rows."""
    return Digest(rows).hexdigest()


def parse(text: str, most: int | None = None) -> Iterator[Row]:
    """Parse metrics.csv: all rows, or at most `most`.

    Raises:
        ValueError: the text is not a metrics.csv.
    """
    table = csv.reader(io.StringIO(text))
    try:
        names = next(table, [])
        known = {*FIRST, LAST}
        if not known <= {*names} or len({*names}) < len(names):
            raise ValueError(names)
        for values in itertools.islice(table, most):
            cells = dict(zip(names, values, strict=True))
            terms = {n: float(cells[n]) for n in names if n not in known and cells[n]}
            seconds = float(cells[LAST])
            if not all(map(math.isfinite, [*terms.values(), seconds])):
                raise ValueError(values)
            epoch, step, split = (cells[name] for name in FIRST)
            yield Row(int(epoch), int(step), SPLITS[split], terms, seconds)
    except (KeyError, csv.Error) as error:
        raise ValueError(str(error)) from None
