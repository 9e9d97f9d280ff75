"""Tables for a person, on stdout."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vaectl.record import ACTIVE, Evaluation
from vaectl.runs import Summary, age

_WIDTH_WITHOUT_TERMINAL = 140


def show_runs(rows: Sequence[Summary], runs_dir: Path, pattern: str) -> None:
    """Print one row a run; a directory that is none says why."""
    if not rows:
        print(f"no runs in {runs_dir}" + (f" fit {pattern}" if pattern != "*" else ""))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("name", "status", "data", "model", "optimizer"):
        table.add_column(heading, overflow="fold")
    for heading in ("epochs", "best validation ELBO", "age"):
        table.add_column(heading, justify="right")
    now = datetime.now(UTC)
    for row in rows:
        if row.problem is not None:
            table.add_row(Text(row.name), Text(row.status))
            continue
        known = (row.name, row.status, row.data, row.model, row.optimizer)
        best = "" if row.best_validation_elbo is None else f"{row.best_validation_elbo:.2f}"
        table.add_row(
            # as text: names and sources may hold what would be markup
            *(Text(value or "") for value in known),
            f"{row.epoch}/{row.epochs}",
            best,
            age(row.start, now) if row.start else "",
        )
    _print(table)
    for row in rows:
        if row.problem is not None:
            print(f"{row.name}: {row.problem}")


def show_evaluation(e: Evaluation) -> None:
    """Print means and standard errors, with split, binarization and estimators."""
    print(f"{e.run}, epoch {e.epoch}: {e.split} split, {e.images:,} images, {e.binarization}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("nats per image")
    table.add_column("mean", justify="right")
    table.add_column("standard error", justify="right")
    rows = [
        (f"ELBO, {e.samples} sample{'s' * (e.samples > 1)}", e.elbo),
        ("KL", e.kl),
        (f"NLL, {e.samples} sample{'s' * (e.samples > 1)}", e.nll),
    ]
    if e.log_likelihood:
        rows.append((f"log p(x), lower bound IW-{e.importance_samples}", e.log_likelihood))
    for name, estimate in rows:
        table.add_row(name, f"{estimate.mean:.2f}", f"{estimate.standard_error:.2f}")
    _print(table)
    print(f"active units: {e.active_units} of {e.code_size} (A_u > {ACTIVE})")
    largest = sorted(e.kl_by_dimension, reverse=True)
    shown = " ".join(f"{kl:.2f}" for kl in largest[:20])
    print(f"KL by dimension, largest first: {shown}{' ...' * (len(largest) > 20)}")
    if 2 * e.active_units < e.code_size:
        print("warning: posterior collapse: most dimensions of the code carry nothing")


def _print(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    console.print(table)
