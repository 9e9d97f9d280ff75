"""`vaectl export`: a trained model in formats of other software."""

from pathlib import Path
from typing import Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli import plugs
from vaectl.cli.app import OUTPUT, TAKE, AsJson, Quiet, RunsDir, app
from vaectl.cli.looking import Checkpoint, Run, load


@app.command(rich_help_panel=TAKE)
def export(
    run: Run,
    formats: Annotated[
        list[str],
        typer.Option(
            "--format",
            metavar="NAME[,NAME...]",
            help=plugs.help_of("export", "Formats, or all; repeatable"),
            autocompletion=plugs.completion("export"),
        ),
    ],
    checkpoint: Checkpoint = "best",
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write into this folder; by default into the run's export/.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a trained model for other software, or a card that describes it.

    The exported encoder and decoder are compared with those of the run on images of its data; a
    file that differs is not kept. The table shows the largest differences.

    Example: vaectl export latest --format safetensors,card

    Example: vaectl export mnist-z20 --format onnx --output web/model
    """
    import json

    from vaectl.exports import base

    chosen = base.parse(formats)
    for each in chosen:
        each.check()
    from vaectl.cli.busy import busy
    from vaectl.cli.tables.exports import show_exports
    from vaectl.runs.find import find

    found = find(run, runs_dir)
    with busy(f"loading {found.name}", quiet=quiet, lines=True) as tell:
        from vaectl import export as library

        model = load(found, checkpoint)
        result = library.export(model, chosen, output, tell)
    if as_json:
        exports = [each.as_json() for each in result.exported]
        show(json.dumps({"path": str(result.folder), "run": model.title, "exports": exports}))
    elif result.exported:
        show_exports(result.exported)
        show(result.folder)
    result.check()
