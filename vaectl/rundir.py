"""A run directory: the only owner of its paths and formats.

config.yaml    the resolved configuration; `vaectl train config.yaml` repeats the run
run.json       status, seed, versions, device, data set, times, resumptions
metrics.csv    one row per epoch and split
checkpoints/   see `vaectl.checkpoints`
figures/       curves, and what other commands draw
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, final

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from vaectl import configfile
from vaectl.config import Config
from vaectl.errors import ConfigError, RunError
from vaectl.files import read, regular, replacing
from vaectl.formats import refuse_newer
from vaectl.record import FORMAT_VERSION, Evaluation, Record, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = ("run.json", "config.yaml", "metrics.csv", "checkpoints")
"""By any of these a run is known, though others be lost."""

COMPARISON = "comparison.yaml"
"""By this a comparison is known, which holds runs."""

SPLITS: dict[str, Literal["train", "validation"]] = {"train": "train", "validation": "validation"}
"""Of metrics.csv, in its order within an epoch."""

MOST_BYTES = 2**26
"""Of run.json and evaluation.json; the largest code there can be fills a fifth of it."""

PATIENCE = 0.5
"""Seconds to wait for a lock: who only asks whether it is held, holds it for a moment."""

_LOCK = ".lock"
_HALF_WRITTEN = re.compile(
    r"\.(config\.yaml|run\.json|metrics\.csv|\d+\.json|(elbo|kl|nll)\.(png|svg))\.\w{8}"
)
"""Temporary files of training; those of other commands may be in the making."""
_EVALUATIONS = TypeAdapter(dict[str, Evaluation])
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure in the format that its suffix names, or leave what was there.

    Raises:
        RunError: it cannot be written.
    """
    kind = path.suffix[1:].lower()
    # no date, so that the same figure gives the same file
    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    try:
        with replacing(path) as file, warnings.catch_warnings():
            # names of runs may be in scripts that the font lacks
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            figure.savefig(file, format=kind, metadata=metadata)
    except OSError as error:
        raise _unwritable(path, error) from None


def check_name(runs_dir: Path, name: str | None, *, force: bool) -> None:
    """Refuse a name before anything is computed for it.

    Raises:
        ConfigError: it cannot be that of a directory.
        RunError: it is taken.
    """
    if name is None:
        return
    if name == "latest" or not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name}: not usable as the name of a run",
            hint="letters, digits, '.', '_' and '-', up to 100, beginning with a letter or digit; "
            "'latest' is reserved",
        )
    path = runs_dir / name
    try:
        if path.exists():
            _check_replaceable(path, force)
    except OSError as error:
        raise _unwritable(path, error) from None


def is_run(path: Path) -> bool:
    """Whether a run is there; one that was killed at once has its lock and its configuration."""
    try:
        killed = (path / _LOCK).exists() and (path / "config.yaml").exists() and _is_bare(path)
        return (path / "run.json").exists() or killed
    except OSError:  # a path that is too long, or in another's private place, is none for us
        return False


def _is_bare(path: Path) -> bool:
    """Whether nothing is there but what a process writes first."""
    names = [child.name for child in path.iterdir()]
    ours = all(name in (_LOCK, "config.yaml") or _HALF_WRITTEN.fullmatch(name) for name in names)
    return ours and (_LOCK in names or not names)


def _unwritable(path: Path, error: OSError, hint: str = "") -> RunError:
    return RunError(f"{path}: cannot be written: {error.strerror}", hint=hint)


def _check_replaceable(path: Path, force: bool) -> None:
    if not force:
        raise RunError(
            f"{path} exists already", hint="choose another --name, or replace it by --force"
        )
    if path.is_symlink():
        raise RunError(
            f"{path} is a link, and --force deletes nothing behind one",
            hint="choose another --name, or remove the link",
        )
    if not path.is_dir() or not (is_run(path) or _is_bare(path)):
        raise RunError(
            f"{path} is not a run, so --force does not replace it", hint="choose another --name"
        )


@final
class RunDir:
    """A directory that one process writes in; the lock is held until the context is left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / _LOCK, timeout=0)

    @classmethod
    def create(cls, runs_dir: Path, name: str | None, default_name: str, *, force: bool) -> Self:
        """Make a new directory and lock it.

        Args:
            runs_dir: where it goes; made where it is missing.
            name: the wanted name, or None for the default one, made unique by a number.
            default_name: what the settings suggest.
            force: whether an existing run of that name is deleted first.

        Raises:
            ConfigError: the name cannot be that of a directory.
            RunError: the name is taken, or the directory cannot be written.
        """
        check_name(runs_dir, name, force=force)
        try:
            runs_dir.mkdir(parents=True, exist_ok=True)
            path, replaced = _claim(runs_dir, name or default_name, name is not None, force)
            run = cls(path)
            run._acquire()
            if replaced:
                run._clear()
        except OSError as error:
            place = Path(error.filename or runs_dir)
            raise _unwritable(place, error, "choose another place by --runs-dir") from None
        return run

    def lock(self) -> Self:
        """Lock a directory that is there, and clear away what a killed process left half written.

        Raises:
            RunError: another process holds the lock, or the directory cannot be written.
        """
        try:
            self._acquire()
            for file in self.path.rglob(".*"):
                if _HALF_WRITTEN.fullmatch(file.name):
                    file.unlink()
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    @property
    def name(self) -> str:
        """The directory's name, from inside it too."""
        return self.path.resolve().name

    @property
    def checkpoints(self) -> Path:
        """Where `vaectl.checkpoints` keeps what it keeps."""
        return self.path / "checkpoints"

    def write_config(self, text: str) -> None:
        """Write config.yaml."""
        self._write("config.yaml", text)

    def write_record(self, record: Record) -> None:
        """Write run.json."""
        self._write("run.json", record.model_dump_json(indent=2) + "\n")

    def write_metrics(self, rows: Sequence[Row]) -> None:
        """Write metrics.csv, whole: it is small, and so it is never half a file."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(Row._fields)
        for row in rows:
            values = (f"{value:.6f}" for value in (row.elbo, row.kl, row.nll))
            writer.writerow([row.epoch, row.step, row.split, *values, f"{row.seconds:.3f}"])
        self._write("metrics.csv", text.getvalue())

    def write_figure(self, name: str, figure: Figure, formats: Sequence[str]) -> list[Path]:
        """Write a figure as figures/NAME.FORMAT, for each format.

        Raises:
            RunError: it cannot be written.
        """
        folder = self.path / "figures"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from None
        paths = [folder / f"{name}.{kind}" for kind in formats]
        for path in paths:
            save_figure(path, figure)
        return paths

    def write_evaluation(self, evaluation: Evaluation) -> Path:
        """Put an evaluation into evaluation.json, in the place of an older one of its split.

        Raises:
            RunError: it cannot be written, or others in it cannot be read and would be lost.
        """
        file = self.path / "evaluation.json"
        try:
            # evaluations may end at once; the run's own lock may be with a training that goes on
            with FileLock(self.path / ".evaluation.lock"):
                evaluations = self.read_evaluations() | {evaluation.split: evaluation}
                self._write(file.name, _EVALUATIONS.dump_json(evaluations, indent=2).decode())
        except OSError as error:
            raise _unwritable(file, error) from None
        return file

    def read_evaluations(self) -> dict[str, Evaluation]:
        """Read evaluation.json: by split; nothing where there is none.

        Raises:
            RunError: it cannot be read, or is broken.
        """
        file = self.path / "evaluation.json"
        try:
            return _EVALUATIONS.validate_json(read(file, MOST_BYTES))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise RunError(f"{file}: cannot be read: {error.strerror}") from None
        except ValidationError:
            raise RunError(
                f"{file}: not evaluations of this vaectl",
                hint="move it away, and evaluate again: vaectl does not write over it",
            ) from None

    @property
    def has_record(self) -> bool:
        """Whether run.json is there: not where a run was killed at once."""
        return (self.path / "run.json").exists()

    def read_record(self) -> Record:
        """Read run.json.

        Raises:
            RunError: it is missing, broken or from a newer vaectl.
        """
        file = self.path / "run.json"
        try:
            content = read(file, MOST_BYTES)
            refuse_newer(file, content, FORMAT_VERSION)
            return Record.model_validate_json(content)
        except OSError as error:
            raise RunError(
                f"{file}: cannot be read: {error.strerror}",
                hint="give the path of a run; vaectl runs lists what there is",
            ) from None
        except ValidationError:
            raise RunError(
                f"{file}: not the record of a run of this vaectl",
                hint="metrics.csv and checkpoints/ beside it may still be whole",
            ) from None

    def read_config(self) -> Config:
        """Read config.yaml.

        Raises:
            RunError: it is missing or broken.
        """
        try:
            return configfile.load(self.path / "config.yaml")
        except ConfigError as error:
            raise RunError(error.message) from None

    def read_metrics(self, *, until: int | None = None) -> list[Row]:
        """Read metrics.csv, all of it or all epochs until one.

        Raises:
            RunError: it is missing or broken, or lacks one of those epochs.
        """
        file = self.path / "metrics.csv"
        if until is not None:
            found = [row for row in self.read_metrics() if row.epoch <= until] if until else []
            pairs = [(epoch, split) for epoch in range(1, until + 1) for split in SPLITS]
            if [(row.epoch, row.split) for row in found] != pairs:
                raise RunError(
                    f"{file}: not all of the epochs 1 to {until}, which the run has had",
                    hint="put it back from a copy, or train again under another --name",
                )
            return found
        try:
            with io.TextIOWrapper(regular(file), "utf-8", newline="") as lines:
                header, *rows = csv.reader(lines)
            if tuple(header) != Row._fields:
                raise ValueError(header)
            return [
                Row(
                    int(epoch),
                    int(step),
                    SPLITS[split],
                    *map(float, numbers),
                )
                for epoch, step, split, *numbers in rows
            ]
        except OSError as error:
            raise RunError(f"{file}: cannot be read: {error.strerror}") from None
        except (TypeError, ValueError, KeyError, csv.Error):
            raise RunError(f"{file}: not the metrics of a run") from None

    def is_locked(self) -> bool:
        """Whether a process writes in it, as far as can be known."""
        try:
            self._lock.acquire()
        except OSError:  # Timeout is one too; another user's lock may not even be tried
            return True
        self._lock.release()
        return False

    def _write(self, name: str, text: str) -> None:
        try:
            with replacing(self.path / name) as file:
                file.write(text.encode())
        except OSError as error:
            raise _unwritable(self.path / name, error) from None

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=PATIENCE)
        except Timeout:
            raise RunError(
                f"{self.path}: another process writes in it",
                hint="wait for it, or choose another --name",
            ) from None

    def _clear(self) -> None:
        # the record goes last: until then, and if this fails half way, it is a run
        for child in sorted(self.path.iterdir(), key=lambda child: child.name == "run.json"):
            if child.name == _LOCK:
                continue
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()


def _claim(runs_dir: Path, name: str, fixed: bool, force: bool) -> tuple[Path, bool]:
    """Make the directory, atomically; say whether it is an existing run to be replaced."""
    path = runs_dir / name
    number = 1
    while True:
        try:
            path.mkdir()
            return path, False
        except FileExistsError:
            if fixed or force:
                _check_replaceable(path, force)
                return path, True
            number += 1
            path = runs_dir / f"{name}-{number}"
