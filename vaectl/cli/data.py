"""`vaectl data`: data sets."""

from typing import Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli import plugs
from vaectl.cli.app import KEEP, Commands, Debug, Quiet, app

data_app = Commands(help="List and prepare data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=KEEP)


def _complete(incomplete: str) -> list[str]:
    """Complete the name of a source, those of installed packages among them."""
    from vaectl.base import plugins
    from vaectl.data.sources.base import suggestions

    plugins.load_installed()
    return [source for source in suggestions() if source.startswith(incomplete)]


@data_app.command("list")
def list_(
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """List data sources, and which of them are ready on this machine.

    Example: vaectl data list
    """
    from vaectl.base import plugins
    from vaectl.data.sources.base import Source

    plugins.load_installed()
    for source in Source.known.values():
        for entry in source.entries():
            show(f"{entry.source:<22} {entry.state:<40} {entry.what}")


@data_app.command()
def prepare(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A source, as vaectl data list shows them.",
            autocompletion=_complete,
        ),
    ],
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Read, check and describe a data set; a download is kept for training.

    Example: vaectl data prepare tfds:fashion_mnist
    Example: vaectl data prepare images:my-pictures
    """
    import sys

    from vaectl import data
    from vaectl.base.terminal import say, silent

    tell = silent if quiet else say
    if sys.stderr.isatty():
        tell(f"reading {source}")
    ready = data.published(source, progress=not quiet and sys.stderr.isatty(), tell=tell)
    for note in () if quiet else ready.notes:
        say(f"note: {note}")
    height, width, channels = ready.train.image_shape
    size = f"{width}x{height} pixels" + (f", {channels} channels" if channels > 1 else "")
    show(
        f"{source}: {len(ready.train.images)} training and {len(ready.test.images)} test images "
        f"of {size}, SHA-256 {ready.fingerprint(tell)[:16]}..."
    )
