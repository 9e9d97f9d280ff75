"""`vaectl data`: data sets."""

from pathlib import Path
from typing import Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli.app import KEEP, OUTPUT, Commands, Quiet, app
from vaectl.cli.config import Assignments

data_app = Commands(help="List and prepare data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=KEEP)


def _complete(incomplete: str) -> list[str]:
    """Complete the name of a source, including sources of installed packages."""
    from vaectl.base import plugins
    from vaectl.data.sources.base import suggestions

    plugins.load_what_loads()
    return [source for source in suggestions() if source.startswith(incomplete)]


@data_app.command("list")
def list_() -> None:
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
            help="A source, as vaectl data list shows it; or a file, a folder or a name that "
            "matches only one source.",
            autocompletion=_complete,
        ),
    ],
    assignments: Assignments = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw some images of each class into this .png, .svg or .pdf.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Read, check and describe a data set; a download is kept for training.

    With --out it draws images of each class, to check that they are read correctly.

    Example: vaectl data prepare tfds:fashion_mnist
    Example: vaectl data prepare my-pictures --set data.size=32 --out look.png
    Example: vaectl data prepare digits.npz --set data.images=train_images
    """
    import sys

    from vaectl import data
    from vaectl.base.terminal import say, silent
    from vaectl.config import reading
    from vaectl.data.description import describe
    from vaectl.data.sources.base import parse

    if out is not None:
        from vaectl.pictures import options as checks

        checks.check_files(out, animate=None)
    tell = silent if quiet else say
    if sys.stderr.isatty():
        tell(f"reading {source}")
    name = str(parse(source).resolved())
    options = {"data.source": name}
    settings = reading.load(assignments=assignments or (), options=options).data
    found = data.published(
        settings.source,
        settings.most_bytes,
        settings.plug.reading,
        progress=not quiet and sys.stderr.isatty(),
        tell=tell,
    )
    for note in () if quiet else found.notes:
        say(f"note: {note}")
    for line in describe(settings.source, found, tell):
        show(line)
    if out is not None:
        from vaectl.pictures.examples import examples
        from vaectl.runs.directory import save_figure

        save_figure(out, examples(settings.plug.title, found))
        show(f"{out}")
