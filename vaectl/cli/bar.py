"""The progress bar of a terminal, with as many details as its width has room for."""

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
"""The least columns of a terminal for a long bar, and for any bar."""


class _Left(TimeRemainingColumn):
    """A column with the time left; empty while that is unknown."""

    def render(self, task: Task) -> Text:
        """Return it as text."""
        return Text() if task.total is None else super().render(task)


def progress(console: Console) -> Progress:
    """Return a display of a task: what it is, a bar, the time left, and its field `numbers`.

    If a line is too long, only the numbers are cut off.
    """
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),  # names may contain markup
    ]
    if console.width >= _NARROW:
        columns.append(BarColumn(bar_width=24 if is_wide(console) else 10))
    rest = Column(ratio=1, no_wrap=True)
    columns += [_Left(), TextColumn("{task.fields[numbers]}", markup=False, table_column=rest)]
    return Progress(*columns, console=console, transient=True, expand=True)


def is_wide(console: Console) -> bool:
    """Tell whether there is room for long numbers."""
    return console.width >= _WIDE
