"""Plugs that are not built in: from files named on the command line, and installed packages.

    vaectl train --plugin my_model.py --model mine        a file: its classes register themselves
    [project.entry-points."vaectl.models"]                 a package: the group of a kind
    mine = "my_package.models:Mine"

A configuration or a run never causes code to be loaded, so that a run from another person cannot
execute any.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from vaectl.base.errors import ConfigError, first_line
from vaectl.base.files import read
from vaectl.base.nearest import did_you_mean, did_you_mean_path
from vaectl.base.plugs import NAME, Plug

GROUPS = (
    "vaectl.executors",
    "vaectl.exports",
    "vaectl.models",
    "vaectl.likelihoods",
    "vaectl.objectives",
    "vaectl.optimizers",
    "vaectl.priors",
    "vaectl.sinks",
    "vaectl.sources",
)
MOST_BYTES = 2**22
"""The largest file with plugs that is read."""


class Origin(NamedTuple):
    """The origin of a plug that is not built in."""

    source: str
    """A file that `--plugin` named, or a module of an installed package."""
    sha256: str
    """SHA-256 of the file that defines it."""


class File(NamedTuple):
    """A file that was loaded, so that other processes can load the same."""

    path: str
    content: bytes
    sha256: str


_files: dict[str, File] = {}
"""The files that were loaded, by their paths."""


def load_file(path: Path) -> None:
    """Run a Python file whose plugs register themselves.

    A file that was run is not run again under another name, nor is a copy of it.

    Raises:
        ConfigError: the file cannot be read, fails, registers no plug, or reuses a plug's name.
    """
    where = f"--plugin {path}"
    try:
        content = read(path, MOST_BYTES)
    except OSError as error:
        raise ConfigError.of(error, where, near=did_you_mean_path(path)) from None
    _run(File(str(path.resolve()), content, hashlib.sha256(content).hexdigest()), where)


def load(file: File) -> None:
    """Run a file that another process has loaded, perhaps on another machine.

    Raises:
        ConfigError: it is not what was loaded there, or it fails here.
    """
    where = f"--plugin {file.path}"
    found = hashlib.sha256(file.content).hexdigest()
    if found != file.sha256:
        raise ConfigError(
            f"{where}: arrived with SHA-256 {found}, and was sent with {file.sha256}",
            hint="run the command again",
        )
    _run(file, where)


def _run(file: File, where: str) -> None:
    full, content, sha256 = file
    if any(sha256 == other.sha256 for other in _files.values()):
        return
    name = f"vaectl_plugin_{Path(full).stem}_{sha256[:8]}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=full)
    assert spec is not None  # noqa: S101  # there is a name
    module = importlib.util.module_from_spec(spec)
    module.__file__ = full
    sys.modules[name] = module  # pydantic looks up annotations there
    with _registering(where, "fix the file; --debug shows the whole traceback", full):
        try:
            exec(compile(content, full, "exec"), vars(module))  # noqa: S102  # this is what --plugin is for
        except BaseException:
            del sys.modules[name]
            raise
    plugs = (plug for kind in Plug.__subclasses__() for plug in kind.known.values())
    if all(plug.__module__ != name for plug in plugs):
        raise ConfigError(
            f"{where}: the file registers no plug",
            hint='define one in it, for example class Mine(Model, name="mine")',
        )
    _files[full] = file


def files() -> list[File]:
    """Return the files that were loaded."""
    return [*_files.values()]


def packages() -> dict[str, str]:
    """Return the versions of the installed packages that bring plugs, by name."""
    from importlib.metadata import entry_points

    points = chain.from_iterable(entry_points(group=group) for group in GROUPS)
    return {point.dist.name: point.dist.version for point in points if point.dist}


@cache
def load_installed() -> None:
    """Load the plugs of all installed packages, once.

    Raises:
        ConfigError: one of them fails to load; the others are loaded.
    """
    from importlib.metadata import entry_points

    failed = []
    for point in chain.from_iterable(entry_points(group=group) for group in GROUPS):
        package = point.dist.name if point.dist else "a package"
        where = f"{point.group}: {point.name} of {package} does not load"
        try:
            with _registering(where, f"fix or remove the package: pip uninstall {package}"):
                point.load()
        except ConfigError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def load_what_loads() -> None:
    """Load the plugs of installed packages, except of those that fail; for completion."""
    with suppress(ConfigError):
        load_installed()


def is_known(kind: type[Plug], name: str) -> bool:
    """Tell whether a kind has a plug of a name, perhaps one of an installed package.

    Raises:
        ConfigError: none is found, and a package fails to load.
    """
    if name not in kind.known and NAME.fullmatch(name):
        try:
            load_installed()
        except ConfigError:
            if name not in kind.known:
                raise
    return name in kind.known


def named(kind: type[Plug], name: str, place: str) -> type[Any]:
    """Return the plug of a kind that has a name, perhaps one of an installed package.

    Raises:
        ConfigError: there is none.
    """
    if not is_known(kind, name):
        raise unknown(kind.kind, name, kind.known, place)
    return kind.known[name]


def unknown(kind: str, name: str, known: Iterable[str], place: str) -> ConfigError:
    """Return the error for a name that no plug of a kind has."""
    names = sorted(known)
    return ConfigError(
        f"{place}: should be one of {', '.join(names)}{did_you_mean(name, names)}",
        hint=f"use one of these; --plugin FILE.py loads {kind}s of your own",
    )


def origin(plug: type[Plug]) -> Origin | None:
    """Return where a plug came from; None if it is built in."""
    if plug.__module__.startswith("vaectl."):
        return None
    file: Any = getattr(sys.modules.get(plug.__module__), "__file__", None)
    if file is None:
        return Origin(f"module {plug.__module__}", "")
    if file in _files:
        return Origin(file, _files[file].sha256)
    try:
        content = Path(file).read_bytes()
    except OSError:
        return Origin(file, "")
    return Origin(f"module {plug.__module__}", hashlib.sha256(content).hexdigest())


@contextmanager
def _registering(where: str, hint: str, file: str = "") -> Iterator[None]:
    """Run code that registers plugs.

    If a module fails, Python forgets it, and its plugs are forgotten too.

    Args:
        where: the beginning of a message.
        hint: what to try if it fails.
        file: the file that is run; its lines are named.

    Raises:
        ConfigError: it fails.
    """
    try:
        yield
    except BaseException as error:
        for kind in Plug.__subclasses__():
            for name, plug in [*kind.known.items()]:
                if plug.__module__ not in sys.modules:
                    del kind.known[name]
        if isinstance(error, ConfigError):
            hint = error.hint if file else hint  # only the author of a package can change it
            raise ConfigError(f"{where}: {error.message}", hint=hint) from None
        if not isinstance(error, Exception | SystemExit):
            raise
        said = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"{where}: {_line(error, file)}{said}", hint=hint) from error


def _line(error: BaseException, file: str) -> str:
    """Name the last line of a file that an error passed through, if there is one."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"line {error.lineno}: "
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return f"line {frames[-1].lineno}: " if frames else ""
