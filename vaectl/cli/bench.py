"""`vaectl bench`: the speed of this machine."""

from typing import Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli.app import MEASURE, AsJson, Quiet, app
from vaectl.cli.config import Assignments, ConfigFile
from vaectl.cli.device import device_option


@app.command(rich_help_panel=MEASURE)
def bench(
    file: ConfigFile = None,
    assignments: Assignments = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="How often each piece of work runs.")
    ] = 5,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Measure larger batches, layers and codes too.")
    ] = False,
    device: Annotated[str, device_option("The device to compute on: auto, cpu or gpu.")] = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure training, evaluation and sampling, each against its matrix products alone.

    Example: vaectl bench
    Example: vaectl bench configs/mnist-z20.yaml --scaling
    """
    import json

    from vaectl.config import reading

    settings = reading.load(file, assignments=assignments or ())
    from vaectl.cli.busy import LOADING, busy
    from vaectl.cli.tables.bench import show_bench

    with busy(LOADING, quiet=quiet, lines=True) as tell:
        from vaectl.bench import report as library

        found = library.run(
            settings, rounds=rounds, scaling=scaling, device_kind=device, watch=tell
        )
    if as_json:
        show(json.dumps(found.as_json()))
    else:
        show_bench(found)
