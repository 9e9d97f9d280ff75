"""Options that name plugs: their help and completion, and --plugin, which loads more of them."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaectl.cli.app import OUTPUT

if TYPE_CHECKING:
    from vaectl.sinks import Sink

_NO_PLUGS = {"base", "schedule", "shared"}
"""Modules in the folders of plugs that hold none."""


def names(kind: str) -> list[str]:
    """Name the built-in plugs of a kind by their files, without importing any."""
    spec = find_spec(f"vaectl.{kind}s")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return [m.name for m in pkgutil.iter_modules(places) if m.name not in _NO_PLUGS]


def help_of(kind: str, what: str) -> str:
    """Say what an option chooses, and among which."""
    return f"{what}: {', '.join(names(kind))}."


def completion(kind: str) -> Callable[[str], list[str]]:
    """Complete the name of a plug, those of installed packages among them."""

    def complete(incomplete: str) -> list[str]:
        from vaectl.base import plugins
        from vaectl.base.plugs import Plug

        importlib.import_module(f"vaectl.{kind}s")
        plugins.load_installed()
        known = next(plugs.known for plugs in Plug.__subclasses__() if plugs.kind == kind)
        return [name for name in known if name.startswith(incomplete)]

    return complete


def option(kind: str, what: str, panel: str) -> Any:
    """Make an option that chooses the plug of a kind.

    Args:
        kind: of the plug.
        what: it is, for the help.
        panel: the part of the help.
    """
    return typer.Option(
        metavar="NAME",
        help=help_of(kind, what),
        autocompletion=completion(kind),
        rich_help_panel=panel,
    )


def sinks_of(texts: Sequence[str] | None) -> list["Sink"]:
    """Read what --log says, and check that it can be had."""
    from vaectl import sinks

    found = [sinks.parse(text) for text in texts or ()]
    for sink in found:
        sink.check()
    return found


def _load(files: list[Path] | None) -> list[Path] | None:
    if files:
        from vaectl.base import plugins

        for file in files:
            plugins.load_file(file)
    return files


SINK = "NAME[:KEY=VALUE,...]"

Logs = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar=SINK,
        help=help_of("sink", "Who else gets the results; repeatable"),
        autocompletion=completion("sink"),
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]

Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Run a Python file that defines plugs of your own; repeatable.",
        callback=_load,
        is_eager=True,
        show_default=False,
    ),
]
