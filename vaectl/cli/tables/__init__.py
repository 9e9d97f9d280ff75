"""Tables on stdout, a file for each kind."""

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


def print_table(table: Table) -> None:
    """Print a table on stdout."""
    console().print(table)
