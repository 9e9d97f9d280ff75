"""`vaectl data`: data sets."""

from typing import Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli.app import KEEP, Debug, Quiet, app

data_app = typer.Typer(help="List and prepare data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=KEEP)


@data_app.command("list")
def list_() -> None:
    """List data sources, and which of them are ready on this machine."""
    from vaectl.data import catalogue

    for entry in catalogue.entries():
        show(f"{entry.source:<22} {entry.state:<40} {entry.what}")


@data_app.command()
def prepare(
    source: Annotated[str, typer.Argument(metavar="NAME", help="A source, as in data.source.")],
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Download, check and cache a data set before training.

    Example: vaectl data prepare tfds:fashion_mnist
    """
    import sys

    from vaectl import data
    from vaectl.base.terminal import say

    ready = data.source(source, progress=not quiet and sys.stderr.isatty())
    for note in () if quiet else ready.notes:
        say(f"note: {note}")
    height, width = ready.train.images.shape[1:]
    show(
        f"{source}: {len(ready.train.images)} training and {len(ready.test.images)} test images "
        f"of {height}x{width} pixels, SHA-256 {ready.fingerprint()[:16]}..."
    )
