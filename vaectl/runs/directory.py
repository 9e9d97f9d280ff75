"""A run directory: the only owner of its paths and formats.

config.yaml    the resolved configuration; `vaectl train config.yaml` repeats the run
run.json       status, seed, versions, device, data set, times, resumptions
metrics.csv    one row per epoch and split
checkpoints/   see `vaectl.runs.checkpoints`
figures/       curves, and what other commands draw

All of it is written durably, reached through no link, and removed only where vaectl made it.
"""

from __future__ import annotations

import errno
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self, final

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from vaectl.base import plugins, seals
from vaectl.base.errors import ConfigError, RunError, remedy
from vaectl.base.files import LINK, Folder, Kind, make_directory, replacing
from vaectl.base.formats import refuse_newer
from vaectl.base.plugs import known
from vaectl.config import reading
from vaectl.config.schema import Config
from vaectl.runs import belongings, metrics
from vaectl.runs.metrics import SPLITS, Row
from vaectl.runs.record import FORMAT_VERSION, Evaluation, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = ("run.json", "config.yaml", "metrics.csv", "checkpoints")
"""A run is known by any of these."""

_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("run.json", "config.yaml", "metrics.csv", "evaluation.json"), "file"),
    **dict.fromkeys(("checkpoints", "figures"), "folder"),
}
"""What a run writes in its directory."""

COMPARISON = "comparison.yaml"
"""By this a comparison is known, which holds runs."""

MOST_BYTES = 2**26
"""Of evaluation.json; the largest code there can be fills a fifth of it."""
MOST_OF_RECORD = 2**22
"""Bytes of run.json: of one that was resumed a thousand times."""
_MOST_OF_A_LINE = 2000
"""Bytes of metrics.csv."""

PATIENCE = 0.5
"""Seconds to wait for a lock: who only asks whether it is held, holds it for a moment."""

_LOCK = ".lock"
_EVALUATIONS = TypeAdapter(dict[str, Evaluation])
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure in the format that its suffix names, or leave what was there.

    Raises:
        RunError: it cannot be written.
    """
    with _writing(path), replacing(path) as file:
        _draw(figure, file, path.suffix[1:].lower())


def _draw(figure: Figure, file: IO[bytes], kind: str) -> None:
    # no date, so that the same figure gives the same file
    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with warnings.catch_warnings():
        # names of runs may be in scripts that the font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(file, format=kind, metadata=metadata)


@contextmanager
def _writing(path: Path, hint: str = "") -> Iterator[None]:
    """Tell that a path, or the one that an error names, cannot be written."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        place = Path(error.filename) if error.filename else path
        if not hint or error.errno == errno.ELOOP:
            hint = remedy(error)
        raise RunError(f"{place}: cannot be written: {error.strerror}", hint=hint) from None


@contextmanager
def _reading(path: Path, hint: str = "") -> Iterator[None]:
    """Tell that a path cannot be read."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: cannot be read: {error.strerror}", hint=hint or remedy(error)
        ) from None


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
    with _writing(path):
        if path.exists():
            _check_replaceable(path, force)


def is_run(path: Path) -> bool:
    """Tell whether a run is there; one that was killed at once has a lock and a configuration."""
    folder = Folder(path)
    try:
        names = folder.names()
        return "run.json" in names or (_LOCK in names and "config.yaml" in names and _is_bare(path))
    except OSError:  # a path that is too long, or in another's private place, is none for us
        return False


def _is_bare(path: Path) -> bool:
    """Tell whether nothing is there but what a process writes first."""
    folder = Folder(path)
    names = folder.names()
    ours = all(
        name in (_LOCK, "config.yaml")
        or (name.startswith(".") and belongings.is_made(folder, name, belongings.TRAINING))
        for name in names
    )
    return ours and (_LOCK in names or not names)


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

    def __init__(self, place: Path | Folder) -> None:
        self.folder = place if isinstance(place, Folder) else Folder(place)
        self.path = self.folder.path
        self.left_alone: list[str] = []
        """Paths that are not vaectl's, in a run that this one replaces."""
        self._lock = FileLock(self.path / _LOCK, timeout=0)

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
        with _writing(runs_dir, "choose another place by --runs-dir"):
            make_directory(runs_dir)
            path, replaced = _claim(runs_dir, name or default_name, name is not None, force)
            run = cls(path)
            with run._acquired():
                if replaced:
                    run._clear()
        return run

    def lock(self) -> Self:
        """Lock a directory that is there, and clear away what a killed process left half written.

        Raises:
            RunError: another process holds the lock, or the directory cannot be written, or a link
                stands where a file of the run belongs.
        """
        with _writing(self.path), self._acquired():
            self._check_kinds()
            for place in ("", "checkpoints", "figures"):
                if not place or self.folder.kind(place):
                    belongings.remove_halves(self.folder.folder(place), belongings.TRAINING)
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
    def checkpoints(self) -> Folder:
        """Where `vaectl.runs.checkpoints` keeps what it keeps."""
        return self.folder.folder("checkpoints")

    def write_config(self, text: str) -> None:
        """Write config.yaml."""
        self._write("config.yaml", text)

    def write_record(self, record: Record) -> None:
        """Write run.json."""
        fields = seals.sealed(record.model_dump(mode="json"))
        self._write("run.json", json.dumps(fields, indent=2) + "\n")

    def write_metrics(self, rows: Sequence[Row], names: Sequence[str]) -> None:
        """Write metrics.csv whole, with such columns."""
        self._write("metrics.csv", metrics.header(names) + metrics.lines(rows, names))

    def append_metrics(self, rows: Sequence[Row], names: Sequence[str]) -> None:
        """Add rows to metrics.csv; they are durable after `sync_metrics`.

        Raises:
            RunError: they cannot be written; the file may end in a part of them.
        """
        with _writing(self.path / "metrics.csv"):
            self.folder.append("metrics.csv", metrics.lines(rows, names).encode())

    def sync_metrics(self) -> None:
        """Make durable what was added to metrics.csv.

        Raises:
            RunError: the disk refuses.
        """
        with _writing(self.path / "metrics.csv"):
            self.folder.sync("metrics.csv")

    def write_figure(self, name: str, figure: Figure, formats: Sequence[str]) -> list[Path]:
        """Write a figure as figures/NAME.FORMAT, for each format.

        Raises:
            RunError: it cannot be written.
        """
        folder = self.folder.folder("figures")
        with _writing(folder.path):
            folder.make()
            for kind in formats:
                with folder.replacing(f"{name}.{kind}") as file:
                    _draw(figure, file, kind)
        return [folder.path / f"{name}.{kind}" for kind in formats]

    def write_evaluation(self, evaluation: Evaluation) -> Path:
        """Put an evaluation into evaluation.json, in the place of an older one of its split.

        Raises:
            RunError: it cannot be written, or others in it cannot be read and would be lost.
        """
        file = self.path / "evaluation.json"
        # evaluations may end at once; the run's own lock may be with a training that goes on
        with _writing(file), FileLock(self.path / ".evaluation.lock"):
            belongings.remove_halves(self.folder, belongings.EVALUATION)
            evaluations = self.read_evaluations() | {evaluation.split: evaluation}
            fields = seals.sealed(_EVALUATIONS.dump_python(evaluations, mode="json"))
            self._write(file.name, json.dumps(fields, indent=2) + "\n")
        return file

    def read_evaluations(self) -> dict[str, Evaluation]:
        """Read evaluation.json: by split; nothing where there is none.

        Raises:
            RunError: it cannot be read, or is broken.
        """
        file = self.path / "evaluation.json"
        try:
            with _reading(file):
                if self.folder.kind(file.name) is None:
                    return {}
                content = self.folder.read(file.name, MOST_BYTES)
            seals.check(content, optional=True)  # an older vaectl wrote none
            fields = json.loads(content)
            fields.pop("seal", None)
            found = _EVALUATIONS.validate_json(json.dumps(fields))
            if any(split != evaluation.split for split, evaluation in found.items()):
                raise ValueError(file)
            return found
        except ValueError:
            raise RunError(
                f"{file}: it was changed, is damaged, or is not of this vaectl",
                hint="put it back from a copy, or move it away and evaluate again",
            ) from None

    @property
    def has_record(self) -> bool:
        """Tell whether run.json is there: not where a run was killed at once."""
        try:
            return self.folder.kind("run.json") is not None
        except OSError:
            return False

    def read_record(self) -> Record:
        """Read run.json, and check every field of it.

        Raises:
            RunError: it is missing, broken or from a newer vaectl.
        """
        file = self.path / "run.json"
        try:
            with _reading(file, "give the path of a run; vaectl runs lists what there is"):
                content = self.folder.read(file.name, MOST_OF_RECORD)
            refuse_newer(file, content, FORMAT_VERSION)
            record = Record.model_validate_json(content)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise RunError(
                f"{file}: not the record of a run of this vaectl" + (f": {where}" if where else ""),
                hint="put it back from a copy; metrics.csv and checkpoints/ may still be whole",
            ) from None
        try:
            seals.check(content, optional=True)  # an older vaectl wrote none
        except ValueError:
            raise RunError(
                f"{file}: it was changed, or is damaged: its seal is that of other fields",
                hint="put it back from a copy; metrics.csv and checkpoints/ may still be whole",
            ) from None
        return record

    def read_config(
        self, *, assignments: Sequence[str] = (), options: Mapping[str, object] | None = None
    ) -> Config:
        """Read config.yaml, perhaps with other values for some keys: see `reading.load`.

        Raises:
            RunError: it is missing or broken.
            ConfigError: those values are wrong.
        """
        file = self.path / "config.yaml"
        with _reading(file):
            content = self.folder.read(file.name, reading.MOST_BYTES)
        self._check_plugs()
        try:
            stored = reading.load(file, content=content)
        except ConfigError as error:
            raise RunError(
                error.message, hint="put it back from a copy; run.json has its values"
            ) from None
        if not assignments and not options:
            return stored
        return reading.load(file, content=content, assignments=assignments, options=options)

    def _check_plugs(self) -> None:
        """Refuse a run whose plugs are not loaded; that is for the user to do.

        Raises:
            RunError: one of them is missing.
        """
        if not self.has_record:
            return
        for plug in self.read_record().plugs:
            if plug.name not in known(plug.kind):
                plugins.load_installed()
            if plug.name not in known(plug.kind):
                raise RunError(
                    f"{self.path}: it needs {plug}, which is not loaded",
                    hint="if you trust that file, name it: --plugin FILE.py",
                )

    def read_metrics(self, *, until: int | None = None) -> list[Row]:
        """Read metrics.csv, all of it or all epochs until one.

        After the epochs that are asked for anything may follow: a power cut leaves half a line.

        Raises:
            RunError: it is missing or broken, or lacks one of those epochs.
        """
        if until == 0:
            return []
        file = self.path / "metrics.csv"
        most = _MOST_OF_A_LINE * (2 * (until or 10**6) + 1)
        with _reading(file), self.folder.open(file.name) as binary:
            text = binary.read(most).decode(errors="replace")
        try:
            rows = list(metrics.parse(text, 2 * until if until else None))
        except ValueError:
            raise RunError(
                f"{file}: not the metrics of a run",
                hint="put it back from a copy, or train again under another --name",
            ) from None
        if until is not None:
            pairs = [(epoch, split) for epoch in range(1, until + 1) for split in SPLITS]
            if [(row.epoch, row.split) for row in rows] != pairs:
                raise RunError(
                    f"{file}: not all of the epochs 1 to {until}, which the run has had",
                    hint="put it back from a copy, or train again under another --name",
                )
        return rows

    def is_locked(self) -> bool:
        """Tell whether a process writes in it, as far as can be known."""
        try:
            self._lock.acquire()
        except OSError:  # Timeout is one too; another user's lock may not even be tried
            return True
        self._lock.release()
        return False

    def _write(self, name: str, text: str) -> None:
        with _writing(self.path / name), self.folder.replacing(name) as file:
            file.write(text.encode())

    @contextmanager
    def _acquired(self) -> Iterator[None]:
        """Acquire the lock; an error inside releases it, and else it stays."""
        if self.folder.kind(_LOCK) == "link":
            raise OSError(errno.ELOOP, LINK, str(self.path / _LOCK))
        try:
            self._lock.acquire(timeout=PATIENCE)
        except Timeout:
            raise RunError(
                f"{self.path}: another process writes in it",
                hint="wait for it, or choose another --name",
            ) from None
        try:
            yield
        except BaseException:
            self._lock.release()
            raise

    def _clear(self) -> None:
        """Remove what vaectl made; the record goes last: until then it is a run."""
        self._check_kinds()
        for place, made in (("", belongings.RUN), ("figures", belongings.CURVES)):
            if not place or self.folder.kind(place):
                refuse_others(self.folder.folder(place), made)
        self.left_alone = belongings.clear(self.folder)

    def _check_kinds(self) -> None:
        """Refuse a link, or a file of another kind, where a part of the run belongs.

        Raises:
            OSError: a link.
            RunError: a file in the place of a directory, or the reverse.
        """
        for name, wanted in _KINDS.items():
            kind = self.folder.kind(name)
            if kind == "link":
                raise OSError(errno.ELOOP, LINK, str(self.path / name))
            if kind not in (None, wanted):
                raise RunError(
                    f"{self.path / name}: in the way of the run's {wanted} of that name",
                    hint="move it away",
                )


def refuse_others(folder: Folder, made: belongings.Made) -> None:
    """Refuse to begin again where that would write over what vaectl did not make.

    Raises:
        RunError: there is such a file.
        OSError: the directory cannot be read.
    """
    for name in belongings.others(folder, made):
        raise RunError(
            f"{folder.path / name}: not as vaectl writes it, so --force does not replace it",
            hint="move it away, or choose another --name",
        )


def _claim(runs_dir: Path, name: str, fixed: bool, force: bool) -> tuple[Path, bool]:
    """Make the directory, atomically; say whether it is an existing run to be replaced."""
    path = runs_dir / name
    number = 1
    while True:
        try:
            path.mkdir()
            Folder(runs_dir).sync_names()
            return path, False
        except FileExistsError:
            if fixed or force:
                _check_replaceable(path, force)
                return path, True
            number += 1
            path = runs_dir / f"{name}-{number}"
