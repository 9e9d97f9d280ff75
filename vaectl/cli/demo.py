"""`vaectl demo`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaectl.base.terminal import say, show
from vaectl.cli.app import TRAIN, Quiet, RunsDir, app, name_option

if TYPE_CHECKING:
    from rich.console import Console

    from vaectl.training.events import Event, Watch
    from vaectl.training.program import TrainState

REACH = 2.0
"""The plane is drawn from -2 to 2 in both dimensions, where 91 % of the prior lie."""


@app.command(rich_help_panel=TRAIN, plugins=False)
def demo(
    epochs: Annotated[int, typer.Option(min=1, max=10_000, help="Passes over the data.")] = 30,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of all random numbers.")
    ] = 0,
    name: Annotated[
        str | None,
        name_option("Name of the run directory; by default a name made from the settings."),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Watch a latent space of two dimensions unfold, in less than a minute.

    Trains on the embedded digits. After each epoch, the terminal shows the decoded points of a
    plane of the latent space. At the end it writes a page to explore the run in a browser.

    Example: vaectl demo
    """
    from vaectl.cli.busy import LOADING, busy
    from vaectl.config import reading

    with busy(LOADING, quiet=quiet):
        from vaectl import experiment, sinks
        from vaectl.explorer import page
        from vaectl.follow import follow
        from vaectl.runs.directory import RunDir

    options = {"model.code_size": 2, "epochs": epochs, "seed": seed}
    settings = reading.load(options=options)
    with _watching(quiet=quiet) as picture, follow([sinks.parse("film")], picture) as watch:
        result = experiment.run(settings, runs_dir=runs_dir, name=name, watch=watch)
    show(result.summary())
    with busy("making a page", quiet=quiet):
        made = page.explore([RunDir(result.path)])
    show("open this page in a browser:")
    show(made.path)


@contextmanager
def _watching(*, quiet: bool) -> Iterator["Watch"]:
    """Draw the plane after each epoch on a terminal; elsewhere show what `vaectl train` shows."""
    from rich.console import Console

    from vaectl.cli import progress

    console = Console(stderr=True, highlight=False)
    if quiet or not console.is_terminal:
        with progress.watching(quiet=quiet) as watch:
            yield watch
    else:
        with _live(console) as watch:
            yield watch


@contextmanager
def _live(console: "Console") -> Iterator["Watch"]:
    import jax
    import jax.numpy as jnp
    import numpy as np
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from vaectl.cli import mosaic, progress
    from vaectl.pictures import latent
    from vaectl.training import step
    from vaectl.training.events import Started
    from vaectl.training.fit import Epoch
    from vaectl.training.program import Member

    columns, rows, size = mosaic.fits(console.width, console.height - 10)
    x, y = (latent.axis(count, -REACH, REACH, "linear") for count in (columns, rows))
    z = jnp.asarray(latent.plane(x, y, (0, 1), np.zeros(2)))
    bar, track = progress.tracking(console)
    decode: Callable[["TrainState"], Any]
    picture = Text()

    def watch(event: "Event") -> None:
        nonlocal decode, picture
        track(event)
        match event:
            case Started():
                program, member = event.program, Member.of(event.settings)

                def mean(state: "TrainState") -> Any:
                    return program.vae.network(step.evaluated(program, member, state)).mean(z)

                decode = jax.jit(mean)
            case Epoch():
                images = np.asarray(decode(event.state))
                picture = mosaic.mosaic(images, size)
                live.update(Group(picture, bar))

    with Live(bar, console=console, refresh_per_second=8) as live:
        yield watch
        live.update(picture)
    say("each picture is decoded from a point of the plane, -2 to 2 in both dimensions")
