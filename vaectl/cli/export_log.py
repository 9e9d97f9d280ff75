"""`vaectl export-log`: write afterwards what a sink writes during training."""

from pathlib import Path
from typing import Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli import plugs
from vaectl.cli.app import KEEP, Quiet, RunsDir, app


@app.command("export-log", rich_help_panel=KEEP)
def export_log(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|COMPARISON",
            help="A path or a name in --runs-dir, or latest for the last run.",
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar=plugs.SINK,
            help=plugs.help_of("sink", "Where to write the log"),
            autocompletion=plugs.completion("sink"),
        ),
    ],
    runs_dir: RunsDir = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Write the log of a finished run, or of each member of a comparison, as --log does.

    The log is made from metrics.csv, the configuration and the kept checkpoints. It replaces what
    an earlier call or --log wrote, except for pictures of epochs without a checkpoint. Damaged
    members of a comparison are reported, and the others are written.

    Example: vaectl export-log latest --to tensorboard
    Example: vaectl export-log latest --to mlflow:uri=http://127.0.0.1:5000
    """
    from vaectl import sinks
    from vaectl.base.errors import RunError
    from vaectl.runs import find as runs

    sink = sinks.parse(to, "--to")
    sink.check()
    found = runs.find_all(run, runs_dir)
    from vaectl.cli.busy import LOADING, busy

    with busy(LOADING, quiet=quiet):
        from vaectl.cli import progress
        from vaectl.follow import replay
        from vaectl.training.events import Phase

    written: list[Path] = []
    errors: list[RunError] = []
    with progress.watching(quiet=quiet) as watch:
        for each in found:
            watch(Phase(f"writing the log of {each.name}"))
            try:
                replay(each, sink, watch)
                written.append(each.path)
            except RunError as error:
                errors.append(error)
    for path in written:
        show(path)
    if errors:
        messages = "\n".join(error.message for error in errors)
        raise RunError(messages, hint=errors[0].hint)
