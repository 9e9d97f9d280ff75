"""Help and completion of options that choose plugs."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaectl.cli.app import OUTPUT

if TYPE_CHECKING:
    from vaectl.executors import Executor
    from vaectl.sinks import Sink


def names(kind: str) -> list[str]:
    """Return the names of a kind's built-in plugs, without importing them.

    Each has a file of its name; `base` and files that begin with '_' define none.
    """
    spec = find_spec(f"vaectl.{kind}s")
    places = list(spec.submodule_search_locations or ()) if spec else []
    files = [module.name for module in pkgutil.iter_modules(places)]
    return [file for file in files if file != "base" and not file.startswith("_")]


def help_of(kind: str, what: str) -> str:
    """Return an option's help: what it chooses, and the built-in plugs."""
    return f"{what}: {', '.join(names(kind))}."


def completion(kind: str) -> Callable[[str], list[str]]:
    """Return a completion of plug names, including those of installed packages."""

    def complete(incomplete: str) -> list[str]:
        from vaectl.base import plugins
        from vaectl.base.plugs import known

        importlib.import_module(f"vaectl.{kind}s")
        plugins.load_what_loads()
        return [name for name in known(kind) if name.startswith(incomplete)]

    return complete


def option(kind: str, what: str, panel: str) -> Any:
    """Make an option that chooses the plug of a kind."""
    return typer.Option(
        metavar="NAME",
        help=help_of(kind, what),
        autocompletion=completion(kind),
        rich_help_panel=panel,
    )


def sinks_of(texts: Sequence[str] | None) -> list["Sink"]:
    """Read what --log says, and check that it can be used."""
    if not texts:
        return []
    from vaectl import sinks

    found = [sinks.parse(text) for text in texts]
    for sink in found:
        sink.check()
    return found


def executor_of(text: str | None) -> "Executor | None":
    """Read what --executor says.

    An impossible name is refused before executors are imported, which takes long.
    """
    if text is None:
        return None
    from vaectl.base import plugins
    from vaectl.base.plugs import known

    name, place = text.partition(":")[0], f"--executor {text}"
    there = {*names("executor"), *known("executor")}
    if name not in there and not plugins.packages():
        raise plugins.unknown("executor", name, there, place)
    from vaectl import executors

    return executors.parse(text)


SINK = "NAME[:KEY=VALUE,...]"

Logs = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar=SINK,
        help=help_of("sink", "Also send the results to (repeatable)"),
        autocompletion=completion("sink"),
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]

Executors = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="NAME[:VALUE|KEY=VALUE,...]",
        help=help_of("executor", "Where members train"),
        autocompletion=completion("executor"),
        show_default="local",
    ),
]
