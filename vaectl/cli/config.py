"""`vaectl config`: configurations and their schema."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vaectl.base import terminal
from vaectl.cli import plugs
from vaectl.cli.app import KEEP, Commands, Debug, app

config_app = Commands(help="Show configurations and their schema.", no_args_is_help=True)
app.add_typer(config_app, name="config", rich_help_panel=KEEP)

ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file; by default the built-in configuration, which uses the embedded digits.",
        show_default=False,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a key of the configuration by its dotted path; repeatable.",
        show_default=False,
    ),
]


@config_app.command()
def show(
    file: ConfigFile = None,
    assignments: Assignments = None,
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Print a configuration or a comparison with all keys.

    Example: vaectl config show > mine.yaml
    Example: vaectl config show configs/mnist-z20.yaml --set model.code_size=2
    """
    from vaectl.config import reading

    load: Callable[..., Any] = reading.load
    if file is not None and reading.is_comparison(reading.read_mapping(file, {})):
        from vaectl.comparison import plan

        load = plan.load
    terminal.show(reading.dump(load(file, assignments=assignments or ())), end="")


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration, for editors that complete and check YAML.

    Example: vaectl config schema > vaectl.schema.json
    """
    import json

    from vaectl.config import reading

    terminal.show(json.dumps(reading.json_schema(), indent=2))
