"""All words that depend on the installed vaectl alone, kept in a file of the cache directory.

    {"stamp": [...], "command": {...}, "keys": {"optimizer.name": ["adam", ...]}, "short": {...}}

A command has `options` by name, `arguments` in order, `commands` by name, and `help`. An option or
argument has `name`, `metavar`, `takes` (words), `repeats`, `values` and `help`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vaectl.base.cache import directory


def known() -> dict[str, Any]:
    """Return the words, from the cache if it is of this vaectl and of these installed packages."""
    file, stamp = directory() / "completion.json", _stamp()
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
        if found["stamp"] == stamp:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    from vaectl.base.files import make_directory, replacing
    from vaectl.cli import words

    found = {"stamp": stamp, **words.all_words()}
    try:
        make_directory(file.parent)
        with replacing(file) as out:
            out.write(json.dumps(found).encode())
    except OSError:
        pass  # the next answer takes as long as this one
    return found


def _stamp() -> list[Any]:
    """Return what changes with vaectl's files, and with what is installed beside it."""
    here = Path(__file__).parent.parent
    files = [file.stat().st_mtime_ns for file in here.rglob("*.py")]
    installed = [path.stat().st_mtime_ns for path in map(Path, sys.path) if path.is_dir()]
    return [str(here), len(files), max(files), *installed]
