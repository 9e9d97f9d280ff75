"""Recognition of files that vaectl made, by name and content; vaectl removes no others.

A run may come from somebody else, or contain files of its owner. A file counts as made by vaectl if
vaectl writes files of that name and its content begins like theirs. The same holds for a hidden
file beside it, left by an interrupted write. An empty file, or one of zeros after a power cut, is
recognized by its name alone.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping

from vaectl.base import plugins
from vaectl.base.files import HALF, Folder
from vaectl.base.plugs import known
from vaectl.runs.metrics import MOST_OF_A_LINE

Made = Mapping[str, bytes]
"""Patterns of how files begin, by patterns of their names."""

JSON = rb'\{\s*"format_version":\s*\d'
PNG = rb"\x89PNG.*Matplotlib"
SVG = rb"<\?xml.*Matplotlib"
_HEAD = 4096
_ORBAX = re.compile(
    r"(_METADATA|_CHECKPOINT_METADATA|_sharding|commit_success\.txt|array_metadatas/process_\d+"
    r"|(ocdbt\.process_\d+/)?(manifest\.ocdbt|d/[0-9a-f]{32}))(\.__lock)?"
)

_EVALUATION, _DIAGNOSIS = r"evaluation\.json", r"diagnosis\.json"
RUN: Made = {
    r"config\.yaml": rb"# the resolved configuration of ",
    r"curve\.jsonl": rb"\[\d",
    r"metrics\.csv": rb"epoch,step,split,",
    _EVALUATION: rb'\{\s*"(train|validation|test)": \{',
    r"\.evaluation\.lock": rb"\Z",
    _DIAGNOSIS: JSON,
    r"run\.json": JSON,
}
CHECKPOINTS: Made = {r"\d+\.json": JSON}
UNFINISHED: Made = {r"[0-9a-f]{16}-[a-z]+-[a-z0-9]+\.json": JSON}
VIEWS: Made = {
    r"(sample|manifold|morph|reconstruct|inspect|diagnosis)\.png": PNG,
    r"(sample|manifold|morph)\.gif": rb"GIF89a.*made by vaectl",
    r"(explore|gallery)\.html": rb"<!doctype html>\s*<!-- made by vaectl explore -->",
}
EVALUATION: Made = {name: RUN[name] for name in (_EVALUATION, r"\.evaluation\.lock", _DIAGNOSIS)}
TRAINING: Made = {
    name: content for name, content in {**RUN, **CHECKPOINTS}.items() if name not in EVALUATION
}
"""Files that training writes and that no other command writes at the same time."""


def drawn(names: Iterable[str]) -> Made:
    """Return the patterns of figures that are written as PNG and SVG under these names."""
    choice = "|".join(map(re.escape, names))
    return {rf"({choice})\.png": PNG, rf"({choice})\.svg": SVG}


def curves(run: Folder) -> Made:
    """Return the patterns of a run's curves: of ELBO, KL, NLL and the terms in metrics.csv.

    Raises:
        OSError: metrics.csv cannot be read.
    """
    terms: list[str] = []
    if run.kind("metrics.csv") == "file":
        with run.open("metrics.csv") as file:
            header = file.readline(MOST_OF_A_LINE).decode(errors="replace")
        terms = header.split(",")[3:-1]  # between epoch, step, split and seconds
    return drawn(["curves", "elbo", "kl", "nll", *terms])


def _of_plugs() -> dict[str, Made]:
    """Return the patterns of the files that sinks and exports leave in a run, by folder."""
    made: dict[str, Made] = {}
    for kind in ("sink", "export"):
        importlib.import_module(f"vaectl.{kind}s")  # by name, since those packages import this one
        plugins.load_installed()
        for plug in known(kind).values():
            for folder, files in plug.leaves.items():
                made[folder] = {**made.get(folder, {}), **files}
    return made


def is_made(folder: Folder, name: str, made: Made) -> bool:
    """Tell whether an entry is a file that vaectl made, or the rest of an interrupted write.

    Raises:
        OSError: it cannot be read.
    """
    half = HALF.fullmatch(name)
    meant = half[1] if half else name
    begins = [content for names, content in made.items() if re.fullmatch(names, meant)]
    if not begins or folder.kind(name) != "file":
        return False
    with folder.open(name) as file:
        head = file.read(_HEAD)
    return not head.strip(b"\0") or any(re.match(how, head, re.DOTALL) for how in begins)


def is_of_orbax(path: str) -> bool:
    """Tell whether Orbax writes a file of this path in a checkpoint."""
    return bool(_ORBAX.fullmatch(path))


def foreign(folder: Folder, name: str) -> list[str]:
    """Return the paths of what Orbax did not write in an entry that may be a checkpoint.

    A file browser, for one, leaves files in the directories that it shows. If nothing in the entry
    is of Orbax, it is the entry itself.

    Raises:
        OSError: it cannot be read.
    """
    if not re.fullmatch(r"\d+(\.orbax-checkpoint-tmp.*)?", name) or folder.kind(name) != "folder":
        return [name]
    inside = [*folder.folder(name).walk()]
    others = [path for path, kind in inside if kind != "file" or not is_of_orbax(path)]
    if others and len(others) == len(inside):
        return [name]
    return [f"{name}/{path}" for path in others]


def is_checkpoint(folder: Folder, name: str) -> bool:
    """Tell whether an entry is the directory of an Orbax checkpoint, perhaps incomplete.

    Raises:
        OSError: it cannot be read.
    """
    return not foreign(folder, name)


def remove_halves(folder: Folder, made: Made) -> None:
    """Remove the remains of interrupted writes.

    Raises:
        OSError: the directory cannot be read, or a file cannot be removed.
    """
    for name in folder.names():
        if HALF.fullmatch(name) and is_made(folder, name, made):
            folder.remove(name)


def others(folder: Folder, made: Made) -> list[str]:
    """Return the names of files that vaectl would overwrite but did not make.

    Raises:
        OSError: the directory cannot be read.
    """
    return [
        name
        for name in folder.names()
        if any(re.fullmatch(pattern, name) for pattern in made) and not is_made(folder, name, made)
    ]


def remove(folder: Folder, made: Made) -> list[str]:
    """Remove the files that vaectl made in a directory; return the names of all others.

    Raises:
        OSError: the directory cannot be read, or a file cannot be removed.
    """
    left = []
    for name in folder.names():
        if is_made(folder, name, made):
            folder.remove(name)
        else:
            left.append(name)
    return left


def remove_run(parent: Folder, name: str) -> list[str]:
    """Remove a run, or the files that vaectl made in it; return the paths of all others.

    Raises:
        OSError: something cannot be read or removed.
    """
    run = parent.folder(name)
    left = clear(run)
    if run.names() in ([], [".lock"]):
        parent.remove(name)
    return left


def clear(run: Folder) -> list[str]:
    """Remove the files that vaectl made in a run, the record last; return the paths of all others.

    Raises:
        OSError: something cannot be read or removed.
    """
    figures = {**VIEWS, **curves(run)}
    of_plugs = _of_plugs()
    own = {**of_plugs.pop("", {}), **RUN}
    places: dict[str, Made] = {
        **of_plugs,
        "checkpoints": CHECKPOINTS,
        "figures": figures,
        "unfinished": UNFINISHED,
    }
    left = []
    for place, made in {**places, "": own}.items():
        folder = run.folder(place)
        if place and run.kind(place) in (None, "file"):
            continue
        for name in folder.names():  # sorted, so that run.json is removed last
            if is_made(folder, name, made) or (made is CHECKPOINTS and is_checkpoint(folder, name)):
                folder.remove(name)
            elif made is CHECKPOINTS and (strange := foreign(folder, name)) != [name]:
                files = folder.folder(name)
                for path, kind in [*files.walk()]:
                    if kind == "file" and is_of_orbax(path):
                        files.remove(path)
                left += [str(folder.path / other) for other in strange]
            elif place or (name != ".lock" and (name not in places or run.kind(name) == "file")):
                left.append(str(folder.path / name))
        if place and not folder.names():
            run.remove(place)
    return left
