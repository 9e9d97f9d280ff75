"""`vaectl import`: a run made of weights from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from vaectl.base.terminal import say, show
from vaectl.cli.app import TAKE, Force, Quiet, RunsDir, app, name_option
from vaectl.cli.config import Assignments


@app.command("import", rich_help_panel=TAKE)
def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A .safetensors file, such as vaectl export writes."),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="CONFIG",
            help="A YAML file that describes the network; by default the description in FILE.",
            show_default=False,
        ),
    ] = None,
    assignments: Assignments = None,
    name: Annotated[
        str | None,
        name_option("Name of the run directory; by default one like imported-mnist-z20."),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Make a run from a file of weights, to sample, look at and evaluate.

    The run is marked as imported: it has no metrics, and cannot be resumed. By default its data set
    is the one that the file names, and is not read; with --config or --set it is read.

    Example: vaectl import runs/mnist-z20/export/model.safetensors --name copy

    Example: vaectl import authors.safetensors --config configs/mnist-z20.yaml
    """
    from vaectl.cli.busy import busy
    from vaectl.config import reading
    from vaectl.exports.base import form_of

    form_of(file)
    if config is not None:
        reading.load(config, assignments=assignments or ())
    with busy(f"importing {file}", quiet=quiet):
        from vaectl import importing

        rundir = importing.bring(
            file,
            config_file=config,
            assignments=assignments or (),
            name=name,
            runs_dir=runs_dir,
            force=force,
        )
    if not quiet:
        for path in rundir.left_alone:
            say(f"warning: {path}: not vaectl's, and left alone")
        found = rundir.read_record().data
        size = found["images"]["test"]
        say(f"data: {found['source']}, {size:,} test images; vaectl evaluate checks that they fit")
    show(rundir.path)
