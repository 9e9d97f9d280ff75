"""Tables of measured speeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from vaectl.base.terminal import show
from vaectl.cli.tables import begin, print_table

if TYPE_CHECKING:  # these load JAX
    from vaectl.bench.measures import Work
    from vaectl.bench.report import Bench


def show_bench(b: Bench) -> None:
    """Print speeds with their floors, the parts of a step, and the cost of members."""
    threads = f", {b.device['cpu_threads']} threads" if b.device["platform"] == "cpu" else ""
    show(
        f"{b.device['kind']} ({b.device['platform']}{threads}), products of training in "
        f"{b.precision}, medians of {b.rounds} rounds"
    )
    print_table(_work_table("work", b.work))
    parts = begin("a training step", "ms", "share")
    for part in b.parts:
        parts.add_row(part.name, f"{part.milliseconds:.3f}", f"{part.share:.0%}")
    print_table(parts)
    if b.scaling:
        print_table(_work_table("training with", b.scaling))
    p = b.population
    show(f"compilation without a cache: {b.compile_seconds:.1f} s")
    show(f"peak memory: {b.peak_memory / 2**20:,.0f} MiB")
    show(f"images streamed from host memory: {b.streamed:.0%} of the speed")
    show(
        f"cost of each of {p.members} members, relative to one run: {p.together:.2f} together, "
        f"{p.in_turn:.2f} in turn"
    )
    show(f"on this machine, members train {p.chosen}: {p.reason}")


def _work_table(heading: str, rows: Sequence[Work]) -> Table:
    table = begin(heading, "images/s", "seconds", "matrix products alone", "ratio")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.images_per_second:,.0f}",
            f"{row.seconds:.3f}",
            f"{row.floor:.3f}",
            f"{row.ratio:.2f}",
        )
    return table
