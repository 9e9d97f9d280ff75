"""Tables of comparisons and sweeps."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from vaectl.base.plural import plural
from vaectl.base.terminal import show, visible
from vaectl.cli.tables import WIDEST, console
from vaectl.objectives.base import label

if TYPE_CHECKING:  # these load JAX
    from vaectl.comparison import words
    from vaectl.comparison.summary import Summary as Comparison
    from vaectl.sweeps.effects import Effect
    from vaectl.sweeps.summary import Summary as Sweep

_BEST_POINTS = 10
"""The most points of a sweep in a table."""
_WIDTH_OF_RESULTS = 100
"""Characters of the tables of a comparison where there is no terminal."""
_HEADING = 12
"""The least characters in a line of a long heading, if there is room."""


def show_comparison(c: Comparison, added: Sequence[str] = ()) -> None:
    """Print tables with a row for each optimizer, what they rest on, and the verdict."""
    from vaectl.comparison import words
    from vaectl.studies.statistics import told_outliers

    seeds, brackets = len(c.seeds), f" [{c.intervals}]" if len(c.seeds) > 1 else ""
    show(
        f"{c.name}: protocol {c.protocol}, {plural(seeds, 'seed')}, {plural(c.epochs, 'epoch')}, "
        f"{plural(c.trials, 'trial')}; nats per image{brackets}"
    )
    labels = [side.label for side in c.sides]
    columns = [words.board(c), words.details(c)]
    for of_table in columns:
        show_columns(labels, [column for column in of_table if not column.wide])
    show("")
    cells = [[cell.text for cell in column.cells] for table in columns for column in table]
    near = words.close(c.sides, c.pairs)
    lines = [
        f"{words.APPROXIMATELY}: not told apart from {labels[0]}" * bool(near),
        words.told_tests(c.pairs),
        told_outliers(*cells),
        f"The target is {c.target_told}." * (c.target is not None),
        words.told_times(c),
        *words.told_along(c),
        words.told_pairs(c),
        *(f"diverged: {trial}" for trial in c.diverged),
        c.verdict,
        *(words.standing(c, label) for label in added),
    ]
    for line in filter(None, lines):
        show(line)


def show_columns(labels: Sequence[str], columns: Sequence[words.Column]) -> None:
    """Print columns in as few tables below each other as the width needs; no interval breaks."""
    terminal = console()
    width = terminal.width if terminal.is_terminal else _WIDTH_OF_RESULTS
    unbounded = terminal.options.update(width=WIDEST)

    def tables(*, folded: bool) -> list[Table]:
        found: list[Table] = []
        some: list[words.Column] = []
        for column in columns:
            table = _of_columns(labels, [*some, column], width, folded=folded)
            if some and terminal.measure(table, options=unbounded).maximum > width:
                table, some = _of_columns(labels, [column], width, folded=folded), []
            found[-1 if some else len(found) :] = [table]
            some.append(column)
        return found

    for table in min(tables(folded=False), tables(folded=True), key=len):
        show("")
        terminal.print(table)


def _of_columns(
    labels: Sequence[str], columns: Sequence[words.Column], width: int, *, folded: bool
) -> Table:
    """Build a table that breaks long labels, and headings that are wider than their columns.

    Args:
        labels: the names of the rows; if all are empty, there is no column for them.
        columns: the others.
        width: that of the terminal.
        folded: put text in parentheses on a line of its own, and break headings at every space.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    named = any(labels)
    if named:
        table.add_column("", overflow="fold", max_width=width // 4)
    filled = []
    for column in columns:
        cells = [each.text.replace(" (", "\n(") if folded else each.text for each in column.cells]
        widths = [len(line) for cell in cells for line in cell.splitlines()]
        least = 0 if folded else min(len(column.heading), _HEADING)
        most = max([*widths, *map(len, column.heading.split()), least])
        table.add_column(
            Text(textwrap.fill(visible(column.heading), most, break_on_hyphens=False)),
            justify="right" if column.numbers else "left",
            no_wrap=most < width // 2,  # settings that were found may be long
        )
        filled.append(cells)
    for name, *texts in zip(labels, *filled, strict=True):
        table.add_row(*[Text(visible(name))] * named, *map(Text, texts))
    return table


def _told_columns(
    columns: Mapping[str, Sequence[str]], left: Collection[str] = ()
) -> list[words.Column]:
    """Return columns of text, some of them aligned to the left."""
    from vaectl.comparison.words import Cell, Column

    return [
        Column(name, [Cell(visible(text)) for text in texts], numbers=name not in left)
        for name, texts in columns.items()
    ]


def show_sweep(s: Sweep) -> None:
    """Print the best points, the effects of what varies, and the verdict."""
    from vaectl.base.values import written as value_of
    from vaectl.studies.statistics import shown, told_outliers
    from vaectl.sweeps.summary import told_pairs, written

    seeds, brackets = len(s.seeds), f" [{s.intervals}]" if len(s.seeds) > 1 else ""
    show(
        f"{s.name}: {plural(s.points, 'point')}, {plural(seeds, 'seed')}, "
        f"{plural(s.trials, 'trial')}{' to the end' if s.search else ''}; "
        f"nats per image{brackets}"
    )
    best = s.ranked[:_BEST_POINTS]
    ranks = [f"{rank}" for rank in range(1, len(best) + 1)]
    columns = {key: [value_of(point.values[key]) for point in best] for key in s.keys}
    columns[f"best validation {label(s.quantity)}"] = [shown(point.score) for point in best]
    if s.search:
        columns["epochs"] = [f"{point.epochs}" for point in best]
    left = [seeds - point.diverged - point.missing for point in best]
    columns["seeds"] = [f"{count} of {seeds}" for count in left]
    show_columns(ranks, _told_columns(columns))
    if len(s.ranked) > _BEST_POINTS:
        show(f"\nthe best {_BEST_POINTS} of {len(s.ranked):,} points; points.csv has all trials")
    if s.effects:
        _show_effects(s.effects)
    show("")
    for trend in s.trends:
        show(f"{trend.key}: rank correlation with the score {shown(trend.correlation)}")
    if s.places > 1:
        show(f"trained with {s.places} sets of devices, threads and versions: times do not compare")
    if len(s.kinds) > 1:
        show(told_pairs(s))
    if outliers := told_outliers(map(shown, written(s, _BEST_POINTS))):
        show(outliers)
    for trial in s.diverged:
        show(f"diverged: {trial}")
    show(s.verdict)
    if s.best and s.best.test_elbo:
        bound = f", IW-{s.importance_samples} {shown(s.best.test_log_likelihood)}"
        show(f"test ELBO of the best {shown(s.best.test_elbo)}{bound}")


def _show_effects(effects: Sequence[Effect]) -> None:
    """Print what each value of each key does to the score."""
    from vaectl.base.values import written as value_of
    from vaectl.studies.statistics import shown

    rows = [
        {
            "key": "" if number else " with ".join(effect.keys),
            "value": ", ".join(map(value_of, level.values.values())),
            "effect, on average over all else": shown(level.effect),
            "diverged": f"{level.diverged} of {level.trials}" if level.diverged else "",
        }
        for effect in effects
        for number, level in enumerate(effect.levels)
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if not any(columns["diverged"]):
        del columns["diverged"]
    show_columns([""] * len(rows), _told_columns(columns, left=["key"]))
