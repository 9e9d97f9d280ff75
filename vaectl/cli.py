"""The command line: parses, calls one function, prints. Nothing imports it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import vaectl
from vaectl.errors import VaectlError

# Nothing heavy is imported above: `vaectl --help` answers at once. Commands import what they call.

app = typer.Typer(
    help="Variational auto-encoder experiments: one YAML file in, one run directory out.\n\n"
    "Start with [bold]vaectl train[/bold]: it trains on digits that come with the package.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Show configurations and their schema.", no_args_is_help=True)
data_app = typer.Typer(help="List and prepare data sets.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")


class Device(StrEnum):
    """What to compute on."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class _Debug:
    on = False


def _debug(on: bool) -> None:
    _Debug.on = on


def _version(on: bool) -> None:
    if on:
        print(f"vaectl {vaectl.__version__}")
        raise typer.Exit


MODEL, TRAINING, PLACE, OUTPUT = "Model", "Training", "Where it goes", "Output"

ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file; without one, the built-in default.",
        show_default=False,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any key of the configuration, by its dotted path; repeatable.",
        show_default=False,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Show tracebacks of errors.",
        callback=_debug,
        rich_help_panel=OUTPUT,
    ),
]


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Parse the options that stand before a command."""


@app.command()
def train(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG",
            help="A YAML file; without one, the built-in default, on the embedded digits.",
            show_default=False,
        ),
    ] = None,
    assignments: Assignments = None,
    code_size: Annotated[
        int | None, typer.Option(help="Dimensions of the latent code.", rich_help_panel=MODEL)
    ] = None,
    hidden_size: Annotated[
        int | None, typer.Option(help="Units of each hidden layer.", rich_help_panel=MODEL)
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="adam, rmsprop, adagrad or sgd.", rich_help_panel=TRAINING),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the chosen optimizer.", rich_help_panel=TRAINING)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data.", rich_help_panel=TRAINING)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images per step.", rich_help_panel=TRAINING)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="All randomness follows from it.", rich_help_panel=TRAINING)
    ] = None,
    device: Annotated[
        Device, typer.Option(help="What to compute on.", rich_help_panel=TRAINING)
    ] = Device.auto,
    name: Annotated[
        str | None,
        typer.Option(
            help="Of the run directory; by default one like mnist-z20-adam-s0.",
            show_default=False,
            rich_help_panel=PLACE,
        ),
    ] = None,
    runs_dir: Annotated[
        Path, typer.Option(help="Where run directories are kept.", rich_help_panel=PLACE)
    ] = Path("runs"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace a run of that name.", rich_help_panel=PLACE)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)
    ] = False,
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Train a model: from a YAML file to checkpoints, metrics and curves.

    Example: vaectl train configs/mnist-z20.yaml --optimizer sgd --epochs 10
    """
    from vaectl import configfile

    settings = configfile.load(
        file,
        assignments=assignments or (),
        options={
            "model.code_size": code_size,
            "model.hidden_size": hidden_size,
            "optimizer.name": optimizer,
            "optimizer.learning_rate": learning_rate,
            "epochs": epochs,
            "batch_size": batch_size,
            "seed": seed,
        },
    )
    from vaectl import experiment, progress

    with progress.watching(quiet=quiet) as watch:
        result = experiment.run(
            settings,
            runs_dir=runs_dir,
            name=name,
            force=force,
            device_kind=device.value,
            watch=watch,
        )
    print(result.as_json() if as_json else result.summary())


@config_app.command("show")
def config_show(file: ConfigFile = None, assignments: Assignments = None) -> None:
    """Print a configuration with every key resolved.

    Example: vaectl config show configs/mnist-z20.yaml --set model.code_size=2
    """
    from vaectl import configfile

    print(configfile.dump(configfile.load(file, assignments=assignments or ())), end="")


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of a configuration, for editors that complete and check YAML.

    Example: vaectl config schema > vaectl.schema.json
    """
    import json

    from vaectl import configfile

    print(json.dumps(configfile.schema(), indent=2))


@data_app.command("list")
def data_list() -> None:
    """List data sources, and which of them are ready on this machine."""
    from vaectl.data import catalogue

    for entry in catalogue.entries():
        print(f"{entry.source:<24} {entry.state:<44} {entry.what}")


@data_app.command("prepare")
def data_prepare(
    source: Annotated[str, typer.Argument(metavar="NAME", help="As in data.source.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Download, check and cache a data set, so that training finds it ready.

    Example: vaectl data prepare tfds:fashion_mnist
    """
    from vaectl import data

    ready = data.source(source, progress=not quiet and sys.stderr.isatty())
    height, width = ready.train.images.shape[1:]
    print(
        f"{source}: {len(ready.train.images)} training and {len(ready.test.images)} test images "
        f"of {height}x{width} pixels, SHA-256 {ready.fingerprint()[:16]}..."
    )


def main() -> None:
    """Run the command line; the one place where errors become messages and exit codes."""
    try:
        app()
    except VaectlError as error:
        if _Debug.on:
            raise
        first, *more = error.message.splitlines()
        lines = [f"error: {first}", *(f"       {line}" for line in more)]
        if error.hint:
            lines.append(f"try:   {error.hint}")
        print("\n".join(lines), file=sys.stderr)
        sys.exit(error.exit_code)
