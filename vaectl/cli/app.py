"""The Typer application, and options that several commands share."""

import inspect
import re
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from vaectl.cli.usage import Command, Group
from vaectl.version import VERSION

_EXAMPLE = "Example: "

# Modules in this folder import nothing heavy at their top, so that `vaectl --help` is fast;
# a command imports what it calls.


class Commands(typer.Typer):
    """Commands whose help ends with examples: the lines `Example: ...` of their docstrings."""

    def __init__(self, *, cls: type[Group] = Group, **options: Any) -> None:
        super().__init__(cls=cls, **options)

    def command(
        self, name: str | None = None, *, plugins: bool = True, **options: Any
    ) -> Callable[[Any], Any]:
        """Register a function, as Typer does, with `--debug` and, unless told, `--plugin`."""
        register = self._with_examples(partial(super().command, name, cls=Command), options)
        return lambda function: register(_with_common(function, plugins=plugins))

    def callback(self, **options: Any) -> Callable[[Any], Any]:
        """Register what handles the options before a command, as Typer does."""
        return self._with_examples(super().callback, options)

    def _with_examples(
        self, register: Callable[..., Any], options: dict[str, Any]
    ) -> Callable[[Any], Any]:
        def registered(function: Callable[..., Any]) -> Any:
            text, found = examples(function)
            told = {"help": text, "epilog": _block(found)} if found else {}
            return register(**{**told, **options})(function)

        return registered


def _with_common(function: Callable[..., Any], *, plugins: bool) -> Callable[..., Any]:
    """Return a command with the options that all have; their callbacks act, so it need not."""
    own = inspect.signature(function, eval_str=True)
    common = {"plugin": Plugins, "debug": Debug} if plugins else {"debug": Debug}
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=None)
        for name, kind in common.items()
        if name not in own.parameters
    ]

    @wraps(function)
    def command(**options: Any) -> Any:
        return function(**{name: options[name] for name in options.keys() & own.parameters.keys()})

    command.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*own.parameters.values(), *more]
    )
    return command


def examples(function: Callable[..., Any]) -> tuple[str, list[str]]:
    """Split a docstring into its text and its examples."""
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    found = [line.removeprefix(_EXAMPLE) for line in lines if line.startswith(_EXAMPLE)]
    text = "\n".join(line for line in lines if not line.startswith(_EXAMPLE))
    # join the lines of a paragraph, which Typer would not do
    paragraphs = re.split(r"\n{2,}", text.strip())
    return "\n\n".join(" ".join(part.split()) for part in paragraphs), found


def _block(found: Sequence[str]) -> str:
    """Return the end of a help text; Typer joins lines that have no blank line between them."""
    lines = [each.replace("[", "\\[") for each in found]  # not markup: escape the brackets
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  {line}" for line in lines)])


app = Commands(
    help="Variational auto-encoder experiments: one YAML file in, one run directory out.\n\n"
    "Start with [bold]vaectl train[/bold]: it trains on digits that come with the package. Then "
    "[bold]vaectl sample latest[/bold] shows what the model learned, and [bold]vaectl explore "
    "latest[/bold] lets you play with it in a browser. [bold]vaectl demo[/bold] shows a training "
    "live.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

TRAIN, LOOK, TAKE, KEEP, MEASURE = (
    "Train",
    "Look at a trained model",
    "Export and import",
    "Manage runs, data sets and configurations",
    "Measure this machine",
)
PLACE, OUTPUT = "Run directory", "Output"


class Tracebacks:
    """The switch for tracebacks of errors, set by --debug."""

    shown = False


def _debug(on: bool) -> None:
    Tracebacks.shown = on


def _version(on: bool) -> None:
    if on:
        print(f"vaectl {VERSION}")
        raise typer.Exit


def _load(files: list[Path] | None) -> list[Path] | None:
    if files:
        from vaectl.base import plugins

        for file in files:
            plugins.load_file(file)
    return files


def name_option(text: str) -> Any:
    """Return an option for the name of a new directory."""
    return typer.Option(help=text, show_default=False, rich_help_panel=PLACE)


RunsDir = Annotated[Path, typer.Option(help="The directory of runs.", rich_help_panel=PLACE)]
Force = Annotated[
    bool, typer.Option("--force", help="Replace a run of that name.", rich_help_panel=PLACE)
]
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
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Run a Python file that defines parts of your own, such as a model; repeatable.",
        callback=_load,
        is_eager=True,
        show_default=False,
    ),
]


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Handle options that come before a command."""
