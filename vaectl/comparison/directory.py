"""The directory of a comparison: whose it is, and who writes in it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vaectl import configfile, experiment
from vaectl.comparison import plan
from vaectl.comparison.ledger import unwritable, write
from vaectl.comparison.plan import Comparison
from vaectl.errors import ConfigError, RunError
from vaectl.rundir import COMPARISON, RunDir

FILES = (COMPARISON, "trials.csv", "curves.csv", "summary.json", "report.html")


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
        known, there = file.exists(), path.exists()
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
    if known and not force and (differing := plan.differing(settings, plan.load(file))):
        raise ConfigError(
            f"{path} holds a comparison by other settings: {', '.join(differing)}",
            hint="choose another --name, or begin it again by --force",
        )


def check_data(path: Path, source: str, fingerprint: str) -> None:
    """Refuse data other than those that the members which are there were trained on.

    Raises:
        DataError: they are others.
    """
    for file in sorted(path.glob("*/run.json")):
        try:
            record = RunDir(file.parent).read_record()
        except RunError:
            continue  # what is broken is told where it is needed
        record.check_data(source, fingerprint)


@contextmanager
def locked(path: Path, *, force: bool) -> Iterator[None]:
    """Make the directory, hold its lock, and empty it where it is to begin again.

    Raises:
        RunError: another process writes in it, or it cannot be written.
    """
    with ExitStack() as held:
        try:
            path.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path / ".lock", timeout=0))
            for name in FILES:  # what a killed process was writing
                for half in path.glob(f".{name}.????????"):
                    half.unlink()
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


def write_settings(path: Path, settings: Comparison) -> None:
    """Write comparison.yaml, whose head says how to go on."""
    header = f"the resolved configuration of {path.name}; to continue it:\n"
    file, runs_dir = shlex.quote(str(path / COMPARISON)), shlex.quote(str(path.parent))
    header += f"vaectl compare-optimizers {file} --runs-dir {runs_dir} --name {path.name}"
    write(path / COMPARISON, configfile.dump(settings, header))
