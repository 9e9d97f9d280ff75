"""Help and completion of options that choose plugs, and the option --plugin."""

import pkgutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

_NO_PLUGS = {"base", "schedule", "shared"}
"""Modules in the folders of plugs that do not define one."""


def names(kind: str) -> list[str]:
    """Return the names of a kind's built-in plugs, by file names, without importing them."""
    spec = find_spec(f"vaectl.{kind}s")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return [m.name for m in pkgutil.iter_modules(places) if m.name not in _NO_PLUGS]


def help_of(kind: str, what: str) -> str:
    """Return an option's help: what it chooses, and the built-in plugs."""
    return f"{what}: {', '.join(names(kind))}."


def completion(kind: str) -> Callable[[str], list[str]]:
    """Return a completion of plug names, including those of installed packages."""

    def complete(incomplete: str) -> list[str]:
        from vaectl.base import plugins
        from vaectl.config import CHOICES

        plugins.load_installed()
        return [name for name in CHOICES[kind].plugs.known if name.startswith(incomplete)]

    return complete


def _load(files: list[Path] | None) -> list[Path] | None:
    if files:
        from vaectl.base import plugins

        for file in files:
            plugins.load_file(file)
    return files


Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Run a Python file that defines your own plugs; repeatable.",
        callback=_load,
        is_eager=True,
        show_default=False,
    ),
]
