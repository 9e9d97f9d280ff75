"""The table of exports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vaectl.cli.tables import begin, print_table

if TYPE_CHECKING:  # these load JAX
    from vaectl.export import Exported


def show_exports(exported: Sequence[Exported]) -> None:
    """Print the formats of an exported model, with their largest differences from the run."""
    table = begin("format")
    table.add_column("files", overflow="fold")
    for heading in ("bytes", "difference of encode", "of decode", "kept up to", "seconds"):
        table.add_column(heading, justify="right")
    for each in exported:
        found = each.differences
        numbers = ("", "", "")
        if found is not None:
            numbers = (f"{found.encode:.1e}", f"{found.decode:.1e}", f"{each.tolerance:.0e}")
        names = ", ".join(path.name for path in each.files)
        table.add_row(each.format, names, f"{each.bytes:,}", *numbers, f"{each.seconds:.1f}")
    print_table(table)
