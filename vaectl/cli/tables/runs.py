"""The table of runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vaectl.base.nearest import did_you_mean_path
from vaectl.base.terminal import say, show, visible
from vaectl.cli.tables import WIDEST, console
from vaectl.objectives.base import label
from vaectl.runs.find import Summary, age

_LONG_NAME = 40
"""Most characters of a run's name where a terminal is narrow."""


class _Column(NamedTuple):
    """A column of the table of runs."""

    heading: str
    cell: Callable[[Summary], str]
    number: bool = False
    short: Callable[[str, int], str] = lambda cell, _most: cell
    """Shorten a cell for a narrow terminal; names are cut to the given number of characters."""


def show_runs(
    rows: Sequence[Summary],
    runs_dir: Path,
    asked: Sequence[str],
    groups: Sequence[str | None] | None = None,
) -> None:
    """Print one row per run, then the problems of the runs.

    Columns that do not fit a terminal are shortened, then left out one by one, the least important
    first. A pipe gets a line with the names of the columns and one line per run, separated by tabs;
    everything else goes to stderr.

    Args:
        rows: the runs.
        runs_dir: where they are.
        asked: what selects them: a pattern of names, and conditions.
        groups: what the scores of ranked runs measure, if they are ranked; several are numbered in
            a column.
    """
    if not rows:
        chosen = [each for each in asked if each != "*"]
        match = f" match {', '.join(chosen)}" if chosen else ""
        show(f"no runs in {runs_dir}{match}{did_you_mean_path(runs_dir)}")
        return
    columns = _columns(groups)
    terminal = console()
    if not terminal.is_terminal:
        _show_lines(rows, columns.values())
    else:
        _show_table(rows, columns, terminal)
    tell = show if terminal.is_terminal else say
    if groups and len(groups) > 1:
        tell("ranked within each group only: numbers of different groups do not compare")
        for number, measure in enumerate(groups, 1):
            sources = dict.fromkeys(row.data for row in rows if row.measure == measure and row.data)
            tell(f"group {number}: {measure or 'unknown'} ({', '.join(sources)})")
    for row in rows:
        if row.problem is not None:
            tell(row.problem if row.members else f"{row.name}: {row.problem}")


def _columns(groups: Sequence[str | None] | None) -> dict[str, _Column]:
    """Return the columns by their names, which `--sort` and `--where` also accept."""
    now = datetime.now(UTC)
    columns = {
        "name": _Column("name", lambda row: row.name, short=_middle),
        "status": _Column("status", lambda row: row.status),
        "data": _Column("data", lambda row: row.data or "", short=_short),
        "model": _Column("model", lambda row: row.model or ""),
        "optimizer": _Column("optimizer", lambda row: row.optimizer or ""),
        "epochs": _Column("epochs", _epochs, number=True),
        "elbo": _Column("elbo", _best, number=True),
        "group": _Column("group", lambda row: _group(row, groups or ()), number=True),
        "age": _Column("age", lambda row: age(row.start, now) if row.start else "", number=True),
    }
    if groups is None:
        del columns["group"]
    return columns


def _show_lines(rows: Sequence[Summary], columns: Collection[_Column]) -> None:
    """Print the columns of each run as one line with tabs."""
    show("\t".join(column.heading for column in columns))
    for row in rows:
        cells = (_one_line(column.cell(row)).replace("\t", "\\t") for column in columns)
        show("\t".join(cells))


def _show_table(rows: Sequence[Summary], columns: dict[str, _Column], terminal: Console) -> None:
    """Print a table that fits the terminal."""
    if "group" in columns and len({columns["group"].cell(row) for row in rows} - {""}) < 2:
        del columns["group"]
    unbounded = terminal.options.update(width=WIDEST)

    def missing(table: Table) -> int:
        return terminal.measure(table, options=unbounded).maximum - terminal.width

    table = _runs_table(rows, columns.values())
    for dropped in ("", "data", "model", "age", "epochs", "optimizer", "status"):
        if missing(table) <= 0:
            break
        columns.pop(dropped, None)
        table = _runs_table(rows, columns.values(), most=_LONG_NAME)
    if missing(table) > 0:
        table = _runs_table(rows, columns.values(), most=_LONG_NAME - missing(table))
    terminal.print(table)


def _runs_table(
    rows: Sequence[Summary], columns: Collection[_Column], *, most: int | None = None
) -> Table:
    """Build the table; `most` is the number of characters for names, None for whole names."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.number else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        cells = [column.cell(row) for column in columns]
        if most is not None:
            pairs = zip(columns, cells, strict=True)
            cells = [column.short(cell, most) for column, cell in pairs]
        # as text: names and sources may contain characters of markup, or end lines
        table.add_row(*(Text(_one_line(cell)) for cell in cells))
    return table


def _one_line(cell: str) -> str:
    return visible(cell).replace("\n", "\\n")


def _epochs(row: Summary) -> str:
    if row.epochs is None:
        return ""
    fewest = "" if row.least_epoch in (None, row.epoch) else f"{row.least_epoch}-"
    return f"{fewest}{row.epoch}/{row.epochs}"


def _best(row: Summary) -> str:
    if row.best_score is None:
        return ""
    other = row.best_quantity not in (None, "elbo")
    return f"{row.best_score:.2f}" + (f" ({label(row.best_quantity or '')})" if other else "")


def _group(row: Summary, groups: Sequence[str | None]) -> str:
    """Number the group of a ranked run."""
    ranked = row.best_quantity == "elbo" and row.best_score is not None
    return f"{groups.index(row.measure) + 1}" if ranked else ""


def _middle(name: str, most: int) -> str:
    """Leave out the middle of a long name."""
    half = max(most // 2, 2)
    return name if len(name) <= 2 * half else f"{name[:half]}…{name[1 - half :]}"


def _short(source: str, _most: int) -> str:
    """Shorten the path in a source to its last part, as in SCHEME:…/mnist."""
    scheme, colon, path = source.partition(":")
    return f"{scheme}:…/{path.rpartition('/')[2]}" if colon and path.count("/") > 1 else source
