"""The directory of a comparison: whose it is, and who writes in it."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vaectl import configfile, experiment
from vaectl.comparison import plan
from vaectl.comparison.ledger import FOLDER, is_sealed, unwritable, write
from vaectl.comparison.plan import Comparison
from vaectl.comparison.unsealed import IMPORTING
from vaectl.errors import ConfigError, RunError
from vaectl.rundir import COMPARISON, PARTS

_HALF_WRITTEN = re.compile(
    r"\.((comparison\.yaml|trials\.csv|curves\.csv|summary\.json|report\.html)"
    r"|[0-9a-f]{16}(\.test)?\.json"
    r"|(curves|curves-seconds|ranks|learning-rates|budget)\.(png|svg))\.[a-z0-9_]{8}"
)
_HALF_SAVED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-s\d+")


def default_name(settings: Comparison) -> str:
    """A readable name: data, code size, protocol."""
    base = settings.base
    stem = experiment.default_name(base).removesuffix(f"-{base.optimizer.name}-s{base.seed}")
    return f"compare-{stem}-{settings.protocol}"


def check(settings: Comparison, path: Path, *, force: bool) -> None:
    """Refuse a directory that is not of this comparison.

    Raises:
        ConfigError: it holds something else, or a comparison by other settings.
        RunError: it cannot be read, or is a link that `force` would empty.
    """
    file = path / COMPARISON
    try:
        written, there = file.exists(), path.exists()
        # its settings may be lost
        known = written or any(map(is_sealed, (path / FOLDER).glob("*.json")))
        # a process that was killed at once leaves its lock, or a file half written
        empty = path.is_dir() and all(child.name.startswith(".") for child in path.iterdir())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    if there and not known and not empty:
        raise ConfigError(f"{path} is not a comparison", hint="choose another --name")
    if known and force and path.is_symlink():
        raise RunError(
            f"{path} is a link, and --force deletes nothing behind one",
            hint="choose another --name, or remove the link",
        )
    if written and not force and (differing := plan.differing(settings, _settings(file))):
        raise ConfigError(
            f"{path} holds a comparison by other settings: {', '.join(differing)}",
            hint=f"choose another --name, or begin it again by --force; if {file} was edited, "
            "remove it, and the same command writes it again",
        )


def _settings(file: Path) -> Comparison:
    try:
        return plan.load(file)
    except ConfigError as error:
        raise ConfigError(
            error.message, hint=f"remove {file}, and the same command writes it again"
        ) from None


@contextmanager
def locked(path: Path, *, force: bool) -> Iterator[None]:
    """Make the directory, hold its lock, and empty it where it is to begin again.

    Raises:
        RunError: another process writes in it, it cannot be written, or a folder of it is a link.
    """
    with ExitStack() as held:
        try:
            path.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path / ".lock", timeout=0))
            for folder in (path / FOLDER, path / "figures"):
                if folder.is_symlink():
                    raise RunError(f"{folder} is a link", hint="remove it; it is made again")
            _clear(path)
            for child in path.iterdir() if force else ():
                if child.is_dir() and not child.is_symlink():
                    shutil.rmtree(child)
                elif child.name != ".lock":
                    child.unlink()
        except Timeout:
            raise RunError(
                f"{path}: another process writes in it",
                hint="wait for it, or choose another --name",
            ) from None
        except OSError as error:
            raise unwritable(path, error) from None
        yield


def _clear(path: Path) -> None:
    """Remove what a killed comparison left half made.

    Raises:
        OSError: it cannot be removed.
    """
    for folder in (path, path / FOLDER, path / "figures"):
        for child in folder.iterdir() if folder.is_dir() else ():
            if _HALF_WRITTEN.fullmatch(child.name):
                child.unlink()
            elif child == path / IMPORTING or (folder.name == FOLDER and _is_half_saved(child)):
                shutil.rmtree(child)


def _is_half_saved(path: Path) -> bool:
    """Whether it is a run that was being made: they are made in trials/, and moved when whole."""
    named = _HALF_SAVED.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    return bool(named) and all(
        child.name in PARTS or child.name.startswith(".") for child in path.iterdir()
    )


def move(source: Path, target: Path) -> None:
    """Give a directory another name.

    Raises:
        RunError: it cannot be renamed.
    """
    try:
        source.rename(target)
    except OSError as error:
        raise unwritable(source, error) from None


def write_settings(path: Path, settings: Comparison) -> None:
    """Write comparison.yaml, whose head says how to go on."""
    header = f"the resolved configuration of {path.name}; to continue it:\n"
    file, runs_dir = shlex.quote(str(path / COMPARISON)), shlex.quote(str(path.parent))
    header += f"vaectl compare-optimizers {file} --runs-dir {runs_dir} --name {path.name}"
    write(path / COMPARISON, configfile.dump(settings, header))
