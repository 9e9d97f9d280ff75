"""The bar that shows on a terminal what is being done, as much of it as the width has room for."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

_WIDE, _NARROW = 110, 70
"""Columns of a terminal from which the bar is long, and from which there is one."""


class _Left(TimeRemainingColumn):
    """The time left, where it can be known."""

    def render(self, task: Task) -> Text:
        """Return it as text."""
        return Text() if task.total is None else super().render(task)


def progress(console: Console) -> Progress:
    """Return a display of a task: what it is, a bar, the time left, and its field `numbers`.

    Where they do not fit, the numbers are cut off, and nothing else.
    """
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),  # names may hold what would be markup
    ]
    if console.width >= _NARROW:
        columns.append(BarColumn(bar_width=24 if is_wide(console) else 10))
    rest = Column(ratio=1, no_wrap=True)
    columns += [_Left(), TextColumn("{task.fields[numbers]}", markup=False, table_column=rest)]
    return Progress(*columns, console=console, transient=True, expand=True)


def is_wide(console: Console) -> bool:
    """Tell whether there is room for long numbers."""
    return console.width >= _WIDE
