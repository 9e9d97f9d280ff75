"""Python in a process of its own; `-m tests.apart` is `-m vaectl` without its figures."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
QUICKLY = ("-m", "tests.apart")
"""Instead of `-m vaectl`; to draw takes a third of the time of a small run, and more of a study."""


def _how(arguments: tuple[object, ...], how: dict[str, Any]) -> dict[str, Any]:
    command = [*how.pop("before", ()), sys.executable, *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **how.pop("env", {})}
    return {"args": command, "env": variables, "text": True, **how}


def start(*arguments: object, **how: Any) -> subprocess.Popen[str]:
    """Start Python, which imports this copy of vaectl in whatever folder it is.

    Args:
        arguments: of Python.
        how: as of `Popen`; `env` has the variables besides those of this process, and `before` the
            command that starts Python, if there is one.
    """
    return subprocess.Popen(**_how(arguments, how))


def run(*arguments: object, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run Python to its end, as `start` starts it; return what it said."""
    if "stdout" not in how:
        how["capture_output"] = True
    done: subprocess.CompletedProcess[str] = subprocess.run(**_how(arguments, how))
    return done


def draw_nothing(setattr_: Callable[[Any, str, Any], None] = setattr) -> None:
    """Leave figures of runs and studies empty; `setattr_` replaces the functions that draw them."""
    from matplotlib.figure import Figure

    from vaectl.pictures import charts, fields, search

    for module, name in (
        (charts, "curves"),
        *((search, name) for name in ("sensitivity", "budget")),
        *((fields, name) for name in ("board", "along")),
    ):
        setattr_(module, name, lambda *_, **__: Figure(figsize=(1, 1)))


def main() -> None:
    """Run the command line."""
    from vaectl import __main__ as program
    from vaectl.base import surroundings

    surroundings.settle()
    draw_nothing()
    program.main()


if __name__ == "__main__":
    main()
