"""Names in directories: of runs, checkpoints and configurations; few files are opened."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Given = Mapping[str, str]
"""The words of the line so far, by the name and the metavar of their option or argument."""

MOST_FOLDERS = 100
"""Folders in which configurations are looked for, the nearest first."""
_DEPTH = 3


def runs(given: Given, word: str) -> Sequence[str]:
    """Return `latest` and the names of runs; names of members only if no other name matches."""
    place = _runs_dir(given)
    found = names(given, word)
    if "/" not in word and any(name.startswith(word) for name in ("latest", *found)):
        return ["latest", *found] if found else []
    members = [member for path in _entries(place) for member in _entries(path) if _is_run(member)]
    return [f"{member.parent.name}/{member.name}" for member in members]


def names(given: Given, _word: str) -> Sequence[str]:
    """Return the names of runs."""
    return [path.name for path in _entries(_runs_dir(given)) if _is_run(path)]


def owned(given: Given, _word: str) -> Sequence[str]:
    """Return the names of runs and comparisons."""
    entries = _entries(_runs_dir(given))
    return [path.name for path in entries if _is_run(path) or _is_study(path)]


def drawable(given: Given, word: str) -> Sequence[str]:
    """Return `latest` and the names of runs and comparisons; those of members as `runs` does."""
    found = owned(given, word)
    return ["latest", *found] if any(name.startswith(word) for name in found) else runs(given, word)


def checkpoints(given: Given, _word: str) -> Sequence[str]:
    """Return the values for `--checkpoint`: latest, best, and the epochs of the run on the line."""
    found = [
        _fields(file) for file in _entries(_run(given) / "checkpoints") if file.suffix == ".json"
    ]
    epochs = {
        int(str(each["epoch"])) for each in found if each.get("epoch") and not each.get("beyond")
    }
    return ["best", "latest", *map(str, sorted(epochs))]


def configurations(_given: Given, word: str) -> Sequence[str]:
    """Return the YAML files below the folder of a word, the nearest folders first."""
    top = word[: word.rfind("/") + 1]
    return [top + str(path) for path in _walk(Path(top)) if path.suffix in (".yaml", ".yml")]


def _walk(top: Path) -> Iterator[Path]:
    """Yield the paths below a folder, relative to it, without the contents of runs."""
    folders = [(top, 0)]
    for count, (folder, depth) in enumerate(folders):
        if count == MOST_FOLDERS:
            return
        for path in _entries(folder):
            if not path.name.startswith(".") and not _is_run(path):
                yield path.relative_to(top)
                if depth < _DEPTH and path.is_dir():
                    folders.append((path, depth + 1))


def _runs_dir(given: Given) -> Path:
    return Path(given.get("--runs-dir", "runs")).expanduser()


def _run(given: Given) -> Path:
    """Return the path of the run that a line names, as `vaectl.runs.find` does."""
    place, name = _runs_dir(given), given.get("RUN") or given.get("RUN|CONFIG", "latest")
    if name == "latest":
        starts = {path.name: _fields(path / "run.json").get("start") for path in _entries(place)}
        known = {each: str(start) for each, start in starts.items() if start}
        name = max(known, key=lambda each: known[each], default=name)
    return place / name if (place / name).exists() else Path(name).expanduser()


def _is_study(path: Path) -> bool:
    return any((path / name).exists() for name in ("comparison.yaml", "sweep.yaml", "trials"))


def _is_run(path: Path) -> bool:
    return (path / "run.json").exists()


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _fields(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
