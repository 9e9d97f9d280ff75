"""The Typer application, and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from vaectl.version import VERSION

# Modules in this folder import nothing heavy at their top, so that `vaectl --help` is fast;
# a command imports what it calls.

app = typer.Typer(
    help="Variational auto-encoder experiments: one YAML file in, one run directory out.\n\n"
    "Start with [bold]vaectl train[/bold]: it trains on digits that come with the package. Then "
    "[bold]vaectl sample latest[/bold] shows what the model learned.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

TRAIN, LOOK, TAKE, KEEP, MEASURE = (
    "Train",
    "Look at a trained model",
    "Take it along",
    "Keep track",
    "Measure this machine",
)
PLACE, OUTPUT = "Where it goes", "Output"


class Tracebacks:
    """The switch for tracebacks of errors, set by --debug."""

    shown = False


def _debug(on: bool) -> None:
    Tracebacks.shown = on


def _version(on: bool) -> None:
    if on:
        print(f"vaectl {VERSION}")
        raise typer.Exit


RunsDir = Annotated[Path, typer.Option(help="The directory of runs.", rich_help_panel=PLACE)]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show warnings only.", rich_help_panel=OUTPUT)
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", help="Show tracebacks of errors.", callback=_debug, rich_help_panel=OUTPUT
    ),
]


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Handle options that come before a command."""
