"""`vaectl explore`: runs on one page, for a browser."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli.app import LOOK, OUTPUT, AsJson, RunsDir, app
from vaectl.cli.looking import Checkpoint, Split


@app.command(rich_help_panel=LOOK)
def explore(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Paths, names in --runs-dir, or latest; several are set side by side.",
        ),
    ],
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="Images of the page; by default as many as load quickly, 300 at most.",
            show_default=False,
        ),
    ] = None,
    split: Split = "test",
    checkpoint: Checkpoint = "best",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            metavar="FILE.html",
            help="Write to this file; by default to explore.html in the run's figures/, of several "
            "runs to gallery.html in the first one's.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Make a page to explore runs in a browser: one file, which needs no network.

    Move through the latent space, draw an image and see its bound, morph, and watch the training.
    The page holds the encoder and the decoder and shows what they compute. A run that was trained
    with --log film has a film in it.

    Example: vaectl explore latest

    Example: vaectl explore mnist-z2 mnist-z20 --output both.html
    """
    from vaectl.base.errors import ConfigError
    from vaectl.cli.busy import busy
    from vaectl.runs.find import find

    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--output {output}: not a page", hint="end it in .html")
    found = [find(run, runs_dir) for run in runs]
    with busy(f"making a page of {', '.join(run.name for run in found)}"):
        from vaectl.explorer import page

        made = page.explore(found, checkpoint=checkpoint, split=split, count=count, output=output)
    if as_json:
        show(json.dumps({**made._asdict(), "path": str(made.path)}))
    else:
        show(f"{', '.join(made.runs)}: {made.size / 1e6:.1f} MB; open it in a browser")
        show(made.path)
