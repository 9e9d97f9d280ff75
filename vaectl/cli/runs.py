"""`vaectl runs`: the list of runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli.app import KEEP, AsJson, Debug, RunsDir, app


class Order(StrEnum):
    """The order of rows."""

    start = "start"
    name = "name"
    elbo = "elbo"


@app.command(rich_help_panel=KEEP)
def runs(
    pattern: Annotated[str, typer.Argument(metavar="GLOB", help="Only matching names.")] = "*",
    sort: Annotated[
        Order, typer.Option(help="By start, name, or best validation ELBO.")
    ] = Order.start,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """List runs: status, data, model, optimizer, epochs, best validation ELBO, age.

    Example: vaectl runs 'mnist-z20-*' --sort elbo
    """
    import json

    from vaectl.cli import tables
    from vaectl.runs import find as library

    rows = library.ordered(library.summaries(runs_dir, pattern), sort.value)
    if as_json:
        show(json.dumps({"runs": [row._asdict() for row in rows]}))
    else:
        tables.show_runs(rows, runs_dir, pattern)
