"""The directory of a study: recognizing, locking and emptying it."""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from vaectl.base.errors import ConfigError, RunError
from vaectl.base.files import LINK, Folder, make_directory
from vaectl.base.section import Section
from vaectl.config import documents
from vaectl.members.places import is_member, unwritable
from vaectl.runs import belongings
from vaectl.runs.belongings import JSON, Made
from vaectl.runs.directory import RunDir, refuse_others
from vaectl.runs.names import STUDIES
from vaectl.studies.ledger import FOLDER, is_sealed, write
from vaectl.studies.unsealed import IMPORTING

MADE: Made = {
    r"(comparison|sweep)\.yaml": rb"# the resolved configuration of ",
    r"trials\.csv": rb"key,label,stage,",
    r"curves\.csv": rb"key,epoch,step,",
    r"points\.csv": rb".*,seed,status,best_",
    r"\.workers": rb"vaectl ",
    r"(summary|times|profile)\.json": JSON,
    r"report\.html": rb"<!doctype html>.*<title>",
}
TRIALS: Made = {r"[0-9a-f]{16}(\.test)?\.json": JSON}
CHARTS = belongings.drawn(
    (
        *("curves", "curves-seconds", "ranks", "board", "along", "learning-rates", "budget"),
        *("effects", "responses", "parallel", "profile"),
    )
)
_OF_WORKERS = (".arriving", ".slurm")
"""Folders of arriving runs and of job files, which a killed study leaves behind."""
_PLACES: Mapping[str, Made] = {"": MADE, FOLDER: TRIALS, IMPORTING: TRIALS, "figures": CHARTS}
"""The files that a study writes, by folder."""


class Kind(NamedTuple):
    """A kind of study."""

    name: str
    """The name of the kind in messages."""
    command: str
    """The command that makes it, and continues it."""
    load: Callable[[Path], Any]
    """A function that reads the settings."""
    differing: Callable[[Any, Any], list[str]]
    """A function that lists the settings that keep two studies from sharing trials, with both
    values."""
    default_name: Callable[[Any], str] = str
    """Returns the name of its directory if none is given."""

    @property
    def file(self) -> str:
        """The file of its settings."""
        return next(file for file, name in STUDIES.items() if name == self.name)


def check(kind: Kind, settings: Section, path: Path, *, force: bool) -> None:
    """Refuse a directory that does not belong to this study.

    Raises:
        ConfigError: it contains something else, or a study with other settings.
        RunError: the directory or its settings cannot be read, or `force` would empty a link.
    """
    file = path / kind.file
    try:
        written, there = file.exists(), path.exists()
        other = next((name for f, name in STUDIES.items() if (path / f).exists()), kind.name)
        # its settings may be missing
        known = written or any(is_sealed(child.name) for child in (path / FOLDER).glob("*.json"))
        # a process that was killed early leaves a lock, or an incomplete file
        empty = path.is_dir() and all(child.name.startswith(".") for child in path.iterdir())
    except OSError as error:
        raise RunError.of(error, path) from None
    if other != kind.name:
        raise ConfigError(f"{path} is a {other}, not a {kind.name}", hint="choose another --name")
    if there and not known and not empty:
        raise ConfigError(f"{path} is not a {kind.name}", hint="choose another --name")
    if known and force and path.is_symlink():
        raise RunError(
            f"{path} is a link, and --force deletes nothing behind one",
            hint="choose another --name, or remove the link",
        )
    if written and not force and (differing := kind.differing(settings, _settings(kind, file))):
        raise ConfigError(
            f"{path} is a {kind.name} with other settings: {', '.join(differing)}",
            hint="choose another --name, give the old values (--set for those of base), "
            f"or start again with --force; if {file} was edited, remove it, and the same command "
            "writes it again",
        )


def _settings(kind: Kind, file: Path) -> Any:
    try:
        return kind.load(file)
    except ConfigError as error:
        raise RunError(
            error.message, hint=f"remove {file}, and the same command writes it again"
        ) from None


@contextmanager
def locked(path: Path, *, force: bool) -> Iterator[list[str]]:
    """Make the directory, hold its lock, and empty it if `force` is set.

    Yields:
        The paths of files that were not removed, because vaectl did not make them.

    Raises:
        RunError: another process writes in it, it cannot be written, or a part of it is a link.
    """
    folder = Folder(path)
    with ExitStack() as held:
        try:
            make_directory(path)
            held.enter_context(FileLock(path / ".lock", timeout=0))
            _check_links(folder)
            _remove_halves(folder)
            left = _clear(folder) if force else []
        except Timeout:
            raise RunError(
                f"{path}: another process writes in it",
                hint="wait for it, or choose another --name",
            ) from None
        except OSError as error:
            raise unwritable(error) from None
        yield left


def remove(path: Path) -> list[str]:
    """Remove a study, or the files and runs in it that vaectl made; return all other paths.

    Raises:
        RunError: another process writes in it, it is a link, or a file cannot be removed.
    """
    place = path.absolute()
    if place.is_symlink():
        raise RunError(f"{path}: {LINK}", hint="remove the link itself")
    with locked(place, force=True) as left:
        parent = Folder(place.parent)
        if parent.folder(place.name).names() in ([], [".lock"]):
            try:
                parent.remove(place.name)
            except OSError as error:
                raise unwritable(error) from None
    return left


def _check_links(folder: Folder) -> None:
    """Refuse links in the place of the study's files.

    Raises:
        OSError: there is a link.
    """
    for name in folder.names():
        written = name in _PLACES or any(re.fullmatch(pattern, name) for pattern in MADE)
        if written and folder.kind(name) == "link":
            raise OSError(errno.ELOOP, LINK, str(folder.path / name))


def _remove_halves(folder: Folder) -> None:
    """Remove what a killed study left incomplete.

    Raises:
        OSError: it cannot be removed.
    """
    for place, made in _PLACES.items():
        if not place or folder.kind(place):
            belongings.remove_halves(folder.folder(place), made)
    if folder.kind(IMPORTING) and not belongings.remove(folder.folder(IMPORTING), TRIALS):
        folder.remove(IMPORTING)
    if folder.kind(FOLDER):
        trials = folder.folder(FOLDER)
        for name in trials.names():  # an older vaectl made runs there
            if is_member(trials, name) and not RunDir(trials.folder(name)).is_locked():
                belongings.remove_run(trials, name)


def _clear(folder: Folder) -> list[str]:
    """Remove the files and runs that vaectl made; return the paths of all others.

    Raises:
        OSError: a file cannot be removed.
    """
    for place, made in _PLACES.items():
        if not place or folder.kind(place):
            refuse_others(folder.folder(place), made)
    left = []
    for name in folder.names():
        if name in _PLACES:
            below = folder.folder(name)
            left += [str(below.path / other) for other in belongings.remove(below, _PLACES[name])]
            if not below.names():
                folder.remove(name)
        elif name in _OF_WORKERS and folder.kind(name) == "folder":
            folder.remove(name)
        elif is_member(folder, name):
            if RunDir(folder.folder(name)).is_locked():
                raise RunError(
                    f"{folder.path / name}: another process writes in it", hint="wait for it"
                )
            left += belongings.remove_run(folder, name)
        elif belongings.is_made(folder, name, MADE):
            folder.remove(name)
        elif name != ".lock":
            left.append(str(folder.path / name))
    return left


def write_settings(kind: Kind, path: Path, settings: Section) -> None:
    """Write the settings, below the command that continues the study."""
    header = f"the resolved configuration of {path.name}; to continue it:\n"
    file, runs_dir = shlex.quote(str(path / kind.file)), shlex.quote(str(path.parent))
    header += f"{kind.command} {file} --runs-dir {runs_dir} --name {path.name}"
    write(Folder(path), kind.file, documents.dump(settings, header))
