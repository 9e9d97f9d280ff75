"""What to do next, told on stderr after a command that made something."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path


def of_run(path: Path, runs_dir: Path, plugins: Sequence[Path]) -> str:
    """Name three commands that look at a run; they need the same plugins."""
    run = _arguments(path, runs_dir, plugins)
    return _told(
        {
            f"vaectl sample {run}": "images that the model makes up",
            f"vaectl explore {run}": "drag, draw and morph in a browser",
            f"vaectl evaluate {run}": "likelihoods with standard errors",
        }
    )


def of_study(path: Path, runs_dir: Path, plugins: Sequence[Path], *, best: bool) -> str:
    """Name the page of a study, and commands that look at its best run, if there is one."""
    steps = {f"open {shlex.quote(str(path / 'report.html'))}": "all results on a page"}
    if best:
        run = _arguments(path / "best", runs_dir, plugins)
        steps[f"vaectl sample {run}"] = "images that the best model makes up"
    return _told(steps)


def _arguments(path: Path, runs_dir: Path, plugins: Sequence[Path]) -> str:
    named = runs_dir == Path("runs") and path.is_relative_to(runs_dir)
    name = str(path.relative_to(runs_dir) if named else path)
    return shlex.join([name, *(word for file in plugins for word in ("--plugin", str(file)))])


def _told(steps: Mapping[str, str]) -> str:
    wide = max(map(len, steps))
    return "next:  " + "\n       ".join(f"{each:{wide}}   # {what}" for each, what in steps.items())
