"""The next steps, told on stderr after a command that made something."""

import shlex
import time
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


def of_time(began: float, trained: float, at_once: int | None) -> str:
    """Say how long a command took since a time, and what part of it was spent in training steps."""
    wall = time.perf_counter() - began
    minutes, seconds = divmod(round(wall), 60)
    workers = f" of {at_once} workers" if at_once and at_once > 1 else ""
    part = "" if at_once is None else f", {trained / wall / at_once:.0%}{workers} in training steps"
    return f"took {minutes} min {seconds} s{part}" if minutes else f"took {seconds} s{part}"


def _arguments(path: Path, runs_dir: Path, plugins: Sequence[Path]) -> str:
    named = runs_dir == Path("runs") and path.is_relative_to(runs_dir)
    name = str(path.relative_to(runs_dir) if named else path)
    return shlex.join([name, *(word for file in plugins for word in ("--plugin", str(file)))])


def _told(steps: Mapping[str, str]) -> str:
    wide = max(map(len, steps))
    return "next:  " + "\n       ".join(f"{each:{wide}}   # {what}" for each, what in steps.items())
