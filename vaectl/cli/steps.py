"""The next steps, printed to stderr after a command that made something."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaectl.base.plural import plural
from vaectl.base.spent import Spent


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


def of_time(account: Spent, trained: float, workers: int | None) -> str:
    """Write how long a command took, and what it spent the time on.

    Args:
        account: the time of the command, by parts.
        trained: seconds of training steps, of all members together.
        workers: the number of workers that train members; None if unknown.
    """
    parts, told, until = account.parts, [], 0.0
    whole = sum(parts.values())
    for part, seconds in parts.items():
        # rounded so that the printed parts add up
        shown = round(until + seconds) - round(until)
        until += seconds
        if not shown:
            continue
        share = ""
        if part == "training":
            share = f" ({seconds / whole:.0%})"
        elif part == "waiting for workers" and workers:
            of_them = plural(workers, "worker")
            share = f" ({trained / seconds / workers:.0%} of {of_them} in training steps)"
        told.append(f"{part} {_duration(shown)}{share}")
    return f"time:  {_duration(round(whole))} = {', '.join(told) or 'next to nothing'}"


def with_time(result: str, account: Spent) -> str:
    """Add what a command spent its time on to its result, a JSON object."""
    parts = account.parts
    seconds = {part.replace(" ", "_"): round(taken, 3) for part, taken in parts.items()}
    time = {"seconds": round(sum(parts.values()), 3), "parts": seconds}
    return json.dumps({**json.loads(result), "time": time})


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _arguments(path: Path, runs_dir: Path, plugins: Sequence[Path]) -> str:
    named = runs_dir == Path("runs") and path.is_relative_to(runs_dir)
    name = str(path.relative_to(runs_dir) if named else path)
    return shlex.join([name, *(word for file in plugins for word in ("--plugin", str(file)))])


def _told(steps: Mapping[str, str]) -> str:
    wide = max(map(len, steps))
    return "next:  " + "\n       ".join(f"{each:{wide}}   # {what}" for each, what in steps.items())
