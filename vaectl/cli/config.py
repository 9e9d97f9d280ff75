"""`vaectl config`: configurations and their schema."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vaectl.base import terminal
from vaectl.cli.app import KEEP, Commands, app

config_app = Commands(
    help="Show and check configurations, and print their schema.", no_args_is_help=True
)
app.add_typer(config_app, name="config", rich_help_panel=KEEP)

ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file; by default the built-in configuration, which uses the embedded digits.",
        show_default=False,
    ),
]


def _set(what: str) -> Any:
    return typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=f"Set a key of the {what}, by its path in vaectl config show; repeatable.",
        show_default=False,
    )


Assignments = Annotated[list[str] | None, _set("configuration")]
BaseAssignments = Annotated[list[str] | None, _set("base experiment")]


@config_app.command()
def show(
    file: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Print all keys of an experiment, a comparison or a sweep, as they will be used.

    Example: vaectl config show > mine.yaml
    Example: vaectl config show configs/mnist-z20.yaml --set model.code_size=2
    """
    from vaectl.config import documents, reading

    load = _loader(file)[1] if file else reading.load
    terminal.show(documents.dump(load(file, assignments=assignments or ())), end="")


def _loader(file: Path) -> tuple[str, Callable[..., Any]]:
    """Tell what a file describes, and return the function that reads it."""
    from vaectl.config import documents, reading

    kind = reading.study_of(documents.read_mapping(file, {}))
    if kind == "sweep":
        from vaectl.sweeps import plan as sweeps

        return "a sweep", sweeps.load
    if kind:
        from vaectl.comparison import plan
        from vaectl.profiles import plan as profiles

        if profiles.has_workloads(file):
            return "a comparison over workloads", profiles.load
        return "a comparison", plan.load
    return "an experiment", reading.load


@config_app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="CONFIG", help="YAML files.")],
) -> None:
    """Check experiments, comparisons and sweeps, without training or reading data.

    Prints what each file is. All problems of all files are reported at once, with their lines.

    Example: vaectl config validate mine.yaml
    Example: vaectl config validate configs/*.yaml configs/compare/*.yaml configs/sweep/*.yaml
    """
    from vaectl.base.errors import ConfigError
    from vaectl.config import problems

    errors = []
    for file in files:
        try:
            what, load = _loader(file)
            load(file)
            terminal.show(f"{file}: {what}")
        except ConfigError as error:
            errors.append(error)
    if errors:
        hints = {error.hint for error in errors}
        raise ConfigError(
            "\n".join(error.message for error in errors),
            hint=hints.pop() if len(hints) == 1 else problems.ALL_KEYS,
        )


@config_app.command(plugins=False)
def schema() -> None:
    """Print the JSON Schema of a configuration, for editors that complete and check YAML.

    Example: vaectl config schema > vaectl.schema.json
    """
    import json

    from vaectl.config import reading

    terminal.show(json.dumps(reading.json_schema(), indent=2))
