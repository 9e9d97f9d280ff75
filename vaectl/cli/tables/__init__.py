"""Tables on stdout, a file for each kind."""

from rich import box
from rich.console import Console
from rich.table import Table

WIDEST = 1000
"""Characters of a line where there is no terminal."""


def console() -> Console:
    """Return the terminal, or what stands for it in a pipe."""
    found = Console(highlight=False)
    if not found.is_terminal:
        found.width = WIDEST
    return found


def begin(heading: str, *numbers: str) -> Table:
    """Return a table with a column of text, and columns of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(heading)
    for each in numbers:
        table.add_column(each, justify="right")
    return table


def print_table(table: Table) -> None:
    """Print a table on stdout."""
    console().print(table)
