"""Names that are in directories: runs, checkpoints and configurations, without opening more files
than needed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence

Given = Mapping[str, str]
"""What the line says so far: an option or a metavar, and its word."""

MOST_FOLDERS = 100
"""Folders in which configurations are looked for, the nearest first."""
_DEPTH = 3


def runs(given: Given, word: str) -> Sequence[str]:
    """Return `latest` and the names of runs; those of members where no other name begins so."""
    place = _runs_dir(given)
    names = [name for name in _names(place) if os.path.exists(f"{place}/{name}/run.json")]
    if "/" not in word and any(name.startswith(word) for name in ["latest", *names]):
        return ["latest", *names] if names else []
    return [
        f"{name}/{member}"
        for name in _names(place)
        for member in _names(f"{place}/{name}")
        if os.path.exists(f"{place}/{name}/{member}/run.json")
    ]


def checkpoints(given: Given, word: str) -> Sequence[str]:  # noqa: ARG001  # as the others
    """Return what `--checkpoint` takes: latest, best, and the epochs of the run that is given."""
    epochs = set()
    place = f"{_run(given)}/checkpoints"
    for name in _names(place):
        if name.endswith(".json") and isinstance(found := _json(f"{place}/{name}"), dict):
            epochs |= {found["epoch"]} if not found.get("beyond") and "epoch" in found else set()
    return ["best", "latest", *map(str, sorted(filter(None, epochs)))]


def configurations(given: Given, word: str) -> Sequence[str]:  # noqa: ARG001  # as the others
    """Return the YAML files below the folder of a word, the nearest folders first."""
    return [path for path in _walk(os.path.dirname(word)) if path.endswith((".yaml", ".yml"))]


def _walk(top: str) -> Iterator[str]:
    folders = [(top, 0)]
    for count, (folder, depth) in enumerate(folders):
        if count == MOST_FOLDERS:
            return
        for name in _names(folder or "."):
            path = os.path.join(folder, name)
            if not name.startswith(".") and not os.path.exists(f"{path}/run.json"):
                yield path
                if depth < _DEPTH and os.path.isdir(path):
                    folders.append((path, depth + 1))


def _runs_dir(given: Given) -> str:
    return os.path.expanduser(given.get("--runs-dir", "runs"))


def _run(given: Given) -> str:
    """Return the path of the run that a line names, as `vaectl.runs.find` does."""
    place, name = _runs_dir(given), given.get("RUN", "latest")
    if name == "latest":
        starts = {n: _json(f"{place}/{n}/run.json") for n in _names(place)}
        known = {n: record["start"] for n, record in starts.items() if isinstance(record, dict)}
        name = max(known, key=lambda n: known[n], default=name)
    path = f"{place}/{name}"
    return path if os.path.exists(path) else os.path.expanduser(name)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _json(file: str) -> object:
    try:
        with open(file, "rb") as opened:
            return json.load(opened)
    except (OSError, ValueError):
        return None
