"""A run directory: the paths and formats of all its files.

config.yaml    the resolved configuration; `vaectl train config.yaml` repeats the run
run.json       status, seed, versions, device, data set, times, resumptions
metrics.csv    one row per epoch and split
checkpoints/   see `vaectl.runs.checkpoints`
figures/       curves, and the figures of other commands
unfinished/    see `vaectl.runs.unfinished`

Files are written durably, reached without following links, and removed only if vaectl made them.
"""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Never, Protocol, Self, final

from filelock import Timeout
from pydantic import TypeAdapter, ValidationError

from vaectl.base import plugins, seals
from vaectl.base.errors import ConfigError, RunError
from vaectl.base.files import LINK, Folder, Kind, make_directory, replacing
from vaectl.base.formats import refuse_newer
from vaectl.base.locks import Lock
from vaectl.base.plugs import Plug
from vaectl.config import documents, reading
from vaectl.config.schema import Config
from vaectl.runs import belongings, metrics
from vaectl.runs.diagnosis import Diagnosis
from vaectl.runs.metrics import SPLITS, UNROUNDED, Row
from vaectl.runs.names import EVALUATION_LOCK, LOCK, check_name, claim
from vaectl.runs.record import FORMAT_VERSION, Evaluation, PlugFacts, Record

_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(
        ("run.json", "config.yaml", "metrics.csv", "evaluation.json", "diagnosis.json"), "file"
    ),
    **dict.fromkeys(("checkpoints", "figures", "unfinished"), "folder"),
}
"""The files and folders of a run."""

MOST_BYTES = 2**26
"""Largest evaluation.json that is read; with the largest code it has a fifth of this."""
MOST_OF_RECORD = 2**22
"""Largest run.json that is read: that of a run resumed a thousand times."""
_MOST_OF_CURVES = 2**30
"""Most bytes of metrics.csv that are read, and the largest curve.jsonl."""

PATIENCE = 0.5
"""Seconds to wait for a lock: `is_locked` in another process may hold it for a moment."""

_EVALUATIONS = TypeAdapter(dict[str, Evaluation])


class Drawing(Protocol):
    """Something that saves itself as a picture: a figure of Matplotlib, an animation."""

    def savefig(self, fname: Any, /, *, format: str, metadata: Any) -> None:  # noqa: A002
        """Write itself into a binary file."""


def save_figure(path: Path, figure: Drawing) -> None:
    """Write a figure in the format of the path's suffix.

    Raises:
        RunError: it cannot be written; an older file is kept.
    """
    content = _drawn(figure, path.suffix[1:].lower())
    with _writing(path), replacing(path) as file:
        file.write(content)


def _drawn(figure: Drawing, kind: str) -> bytes:
    """Draw a figure in memory: an interrupt of that, which may take minutes, leaves no file."""
    # without a date, so that the same figure gives the same file
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    file = io.BytesIO()
    figure.savefig(file, format=kind, metadata=metadata)
    return file.getvalue()


@contextmanager
def _writing(path: Path, hint: str = "") -> Iterator[None]:
    """Turn an OSError into a RunError: a path, or the one that the error names, is not writable."""
    try:
        yield
    except OSError as error:
        place = error.filename or path
        raise RunError.of(error, place, "cannot be written", hint=hint) from None


@contextmanager
def _reading(path: Path, hint: str = "") -> Iterator[None]:
    """Turn an OSError into a RunError: a path cannot be read."""
    try:
        yield
    except OSError as error:
        hint = hint if error.errno in (errno.ENOENT, errno.ENOTDIR) else ""
        raise RunError.of(error, path, hint=hint) from None


@final
class RunDir:
    """A run directory, in which one process writes; it holds the lock until the context is left."""

    def __init__(self, place: Path | Folder) -> None:
        self.folder = place if isinstance(place, Folder) else Folder(place)
        self.path = self.folder.path
        self.left_alone: list[str] = []
        """Files of a replaced run that were kept, because vaectl did not make them."""
        self._lock = Lock(self.folder, LOCK)

    def __reduce__(self) -> tuple[type[Self], tuple[Folder]]:
        """Pickle the place, and not the lock, which belongs to this process."""
        return type(self), (self.folder,)

    @classmethod
    def create(cls, runs_dir: Path, name: str | None, default_name: str, *, force: bool) -> Self:
        """Make a new directory and lock it.

        Args:
            runs_dir: the parent directory, made if it is missing.
            name: the name; None for the default name, which a number makes unique.
            default_name: a name made from the settings.
            force: whether an existing run of that name is deleted first.

        Raises:
            ConfigError: a directory cannot have this name.
            RunError: the name is taken, or the directory cannot be written.
        """
        check_name(runs_dir, name, force=force)
        with _writing(runs_dir, "choose another place by --runs-dir"):
            make_directory(runs_dir)
            path, replaced = claim(
                runs_dir, name or default_name, fixed=name is not None, force=force
            )
            run = cls(path)
            with run._acquired():
                if replaced:
                    run._clear()
        return run

    def lock(self) -> Self:
        """Lock an existing directory, and remove what interrupted writes have left.

        Raises:
            RunError: another process holds the lock, the directory cannot be written, or a link is
                in the place of one of the run's files.
        """
        with _writing(self.path), self._acquired():
            self._check_kinds()
            made = {**belongings.TRAINING, **belongings.curves(self.folder)}
            for place in ("", "checkpoints", "figures"):
                if not place or self.folder.kind(place):
                    belongings.remove_halves(self.folder.folder(place), made)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def remove(self) -> list[str]:
        """Remove the run, or the files in it that vaectl made; return the paths of all others.

        Raises:
            RunError: another process writes in it, it is a link, or a file cannot be removed.
        """
        place = self.path.absolute()
        with _writing(place):
            if place.is_symlink():
                raise OSError(errno.ELOOP, LINK, str(self.path))
            with self._acquired():
                left = belongings.remove_run(Folder(place.parent), place.name)
            self._lock.release()
        return left

    @property
    def name(self) -> str:
        """The directory's name, also if its path is '.'."""
        return self.path.resolve().name

    @property
    def checkpoints(self) -> Folder:
        """The folder of checkpoints."""
        return self.folder.folder("checkpoints")

    def write_config(self, text: str) -> None:
        """Write config.yaml."""
        self._write("config.yaml", text)

    def write_record(self, record: Record) -> None:
        """Write run.json."""
        self._write_sealed("run.json", record.model_dump(mode="json"))

    def write_metrics(self, rows: Sequence[Row], names: Sequence[str]) -> None:
        """Write metrics.csv with all rows, and with columns of these names."""
        self._write("metrics.csv", metrics.header(names) + metrics.lines(rows, names))

    def append_metrics(self, rows: Sequence[Row], names: Sequence[str]) -> None:
        """Add rows to metrics.csv; they are durable after `sync_metrics`.

        Raises:
            RunError: they cannot be written completely.
        """
        with _writing(self.path / "metrics.csv"):
            self.folder.append("metrics.csv", metrics.lines(rows, names).encode())

    def write_unrounded(self, rows: Sequence[Row]) -> None:
        """Write curve.jsonl with all rows."""
        self._write(UNROUNDED, metrics.as_json(rows).decode())

    def append_unrounded(self, rows: Sequence[Row]) -> None:
        """Add rows to curve.jsonl; they are durable after `sync_metrics`.

        Raises:
            RunError: they cannot be written completely.
        """
        with _writing(self.path / UNROUNDED):
            self.folder.append(UNROUNDED, metrics.as_json(rows))

    def sync_metrics(self, *, unrounded: bool = False) -> None:
        """Make the rows added to metrics.csv durable.

        Args:
            unrounded: whether those of curve.jsonl are, too.

        Raises:
            RunError: the disk refuses.
        """
        for name in ["metrics.csv", *([UNROUNDED] if unrounded else [])]:
            with _writing(self.path / name):
                self.folder.sync(name)

    def has_figures(self, names: Sequence[str]) -> bool:
        """Tell whether files of those names are in figures/.

        Raises:
            RunError: that cannot be known, or figures/ is a link.
        """
        with _reading(self.path / "figures"):
            return all(self.folder.kind(f"figures/{name}") == "file" for name in names)

    def remove_figure(self, name: str, formats: Sequence[str]) -> None:
        """Remove a figure that is no longer valid, if it exists.

        Raises:
            RunError: it cannot be removed.
        """
        folder = self.folder.folder("figures")
        with _writing(folder.path):
            for kind in formats:
                if folder.kind(f"{name}.{kind}") == "file":
                    folder.remove(f"{name}.{kind}")

    def write_figure(self, name: str, figure: Drawing, formats: Sequence[str]) -> list[Path]:
        """Write a figure as figures/NAME.FORMAT, for each format.

        Raises:
            RunError: it cannot be written.
        """
        return [self._write_view(f"{name}.{kind}", _drawn(figure, kind)) for kind in formats]

    def write_page(self, name: str, page: bytes) -> Path:
        """Write a page as figures/NAME.html.

        Raises:
            RunError: it cannot be written.
        """
        return self._write_view(f"{name}.html", page)

    def _write_view(self, name: str, content: bytes) -> Path:
        folder = self.folder.folder("figures")
        with _writing(folder.path):
            folder.make()
            with folder.replacing(name) as file:
                file.write(content)
        return folder.path / name

    def write_evaluation(self, evaluation: Evaluation) -> Path:
        """Write an evaluation into evaluation.json; it replaces an older one of the same split.

        Raises:
            RunError: the file cannot be written, or its other evaluations cannot be read.
        """
        file = self.path / "evaluation.json"
        # a lock of its own: training may hold that of the run, and evaluations may end at once
        with _writing(file), Lock(self.folder, EVALUATION_LOCK):
            belongings.remove_halves(self.folder, belongings.EVALUATION)
            evaluations = self.read_evaluations() | {evaluation.split: evaluation}
            self._write_sealed(file.name, _EVALUATIONS.dump_python(evaluations, mode="json"))
        return file

    def read_evaluations(self) -> dict[str, Evaluation]:
        """Read evaluation.json, by split; return nothing if there is no such file.

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
                hint="restore it from a copy, or move it away and evaluate again",
            ) from None

    def write_diagnosis(self, diagnosis: Diagnosis) -> Path:
        """Write a diagnosis into diagnosis.json, instead of an older one.

        Raises:
            RunError: the file cannot be written.
        """
        file = self.path / "diagnosis.json"
        with _writing(file), Lock(self.folder, EVALUATION_LOCK):
            belongings.remove_halves(self.folder, belongings.EVALUATION)
            self._write_sealed(file.name, diagnosis.model_dump(mode="json"))
        return file

    @property
    def has_record(self) -> bool:
        """True if run.json exists; a run that was killed early has none."""
        try:
            return self.folder.kind("run.json") is not None
        except OSError:
            return False

    @property
    def has_config(self) -> bool:
        """True if config.yaml is there, and is a file."""
        try:
            return self.folder.kind("config.yaml") == "file"
        except OSError:
            return False

    def read_record(self) -> Record:
        """Read run.json and check every field.

        Raises:
            RunError: it is missing, broken or from a newer vaectl.
        """
        file = self.path / "run.json"
        try:
            with _reading(file, "give the path of a run; vaectl runs lists all runs"):
                content = self.folder.read(file.name, MOST_OF_RECORD)
            refuse_newer(file, content, FORMAT_VERSION)
            record = Record.model_validate_json(content)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise RunError(
                f"{file}: not the record of a run of this vaectl" + (f": {where}" if where else ""),
                hint="restore it from a copy; metrics.csv and checkpoints/ may still be whole",
            ) from None
        try:
            seals.check(content, optional=True)  # an older vaectl wrote none
        except ValueError:
            raise RunError(
                f"{file}: it was changed or is damaged: its seal does not fit",
                hint="restore it from a copy; metrics.csv and checkpoints/ may still be whole",
            ) from None
        return record

    def read_config(
        self, *, assignments: Sequence[str] = (), options: Mapping[str, object] | None = None
    ) -> Config:
        """Read config.yaml, with other values for some keys: see `reading.load`.

        Raises:
            RunError: the file is missing or broken, or a plug of the run is not loaded.
            ConfigError: the other values are wrong.
        """
        file = self.path / "config.yaml"
        with _reading(file):
            content = self.folder.read(file.name, documents.MOST_BYTES)
        if self.has_record and (missing := missing_plugs(self.read_record().plugs)):
            raise RunError(
                f"{self.path}: needs {missing[0]}, which is not loaded",
                hint="if you trust that file, name it: --plugin FILE.py",
            )
        try:
            stored = reading.load(file, content=content)
        except ConfigError as error:
            raise RunError(
                error.message,
                hint="if it was changed, restore it from a copy; run.json has its values. If an "
                "older vaectl allowed this, look at the run with that version",
            ) from None
        if not assignments and not options:
            return stored
        return reading.load(file, content=content, assignments=assignments, options=options)

    def read_metrics(self, *, until: int | None = None) -> list[Row]:
        """Read metrics.csv: all of it, or the epochs up to `until`.

        Later epochs are ignored, and so is an incomplete line at the end, as a power cut may leave
        it.

        Raises:
            RunError: the file is missing or broken, or lacks one of those epochs.
        """
        if until == 0:
            return []
        file = self.path / "metrics.csv"
        most = _MOST_OF_CURVES
        if until is not None:
            most = min(most, metrics.MOST_OF_A_LINE * (2 * until + 1))
        with _reading(file), self.folder.open(file.name) as binary:
            text = binary.read(most).decode(errors="replace")
        if until is None:
            text = text[: text.rfind("\n") + 1]
        try:
            rows = list(metrics.parse(text, 2 * until if until else None))
            if until is None and rows and rows[-1].split == "train":
                rows.pop()  # the other half of its epoch is lost
        except ValueError:
            raise RunError(
                f"{file}: not the metrics of a run",
                hint="restore it from a copy, or train again under another --name",
            ) from None
        if until is not None:
            pairs = [(epoch, split) for epoch in range(1, until + 1) for split in SPLITS]
            if [(row.epoch, row.split) for row in rows] != pairs:
                raise RunError(
                    f"{file}: some of the epochs 1 to {until} are missing",
                    hint="restore it from a copy, or train again under another --name",
                )
        return rows

    def read_unrounded(self, rows: Sequence[Row]) -> list[Row]:
        """Read the unrounded values of rows of metrics.csv from curve.jsonl.

        Raises:
            RunError: the file is missing or broken, or has other numbers.
        """
        if not rows:
            return []
        file = self.path / UNROUNDED
        with _reading(file):
            content = self.folder.read(UNROUNDED, _MOST_OF_CURVES)
        try:
            found = metrics.from_json(content, len(rows))
        except ValueError:
            found = []
        if metrics.digest(found) != metrics.digest(rows):
            raise RunError(f"{file}: not the numbers of metrics.csv", hint="restore it from a copy")
        return found

    def is_locked(self) -> bool:
        """Tell whether a process writes in the directory, as far as can be known."""
        return self._lock.is_held()

    def _write_sealed(self, name: str, fields: Mapping[str, Any]) -> None:
        self._write(name, json.dumps(seals.sealed(fields), indent=2) + "\n")

    def _write(self, name: str, text: str) -> None:
        with _writing(self.path / name), self.folder.replacing(name) as file:
            file.write(text.encode())

    @contextmanager
    def _acquired(self) -> Iterator[None]:
        """Acquire the lock, and release it only if the context raises an error."""
        try:
            self._lock.acquire(PATIENCE)
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
        """Remove the files that vaectl made; run.json last, so that it stays a run until then."""
        self._check_kinds()
        curves = belongings.curves(self.folder)
        for place, made in (("", belongings.RUN), ("figures", curves)):
            if not place or self.folder.kind(place):
                refuse_others(self.folder.folder(place), made)
        saved = self.folder.folder("checkpoints")
        for name in saved.names() if self.folder.kind("checkpoints") else ():
            for other in belongings.foreign(saved, name):
                if other != name:  # among the files of a checkpoint, which is in the way then
                    _refuse_other(saved.path / other)
        self.left_alone = belongings.clear(self.folder)

    def _check_kinds(self) -> None:
        """Check that the run's files are files and its folders are folders."""
        for name, wanted in _KINDS.items():
            kind = self.folder.kind(name)
            if kind == "link":
                raise OSError(errno.ELOOP, LINK, str(self.path / name))
            if kind not in (None, wanted):
                raise RunError(
                    f"{self.path / name}: in the way of the run's {wanted} of that name",
                    hint="move it away",
                )


def missing_plugs(plugs: Sequence[PlugFacts]) -> list[PlugFacts]:
    """Return those of a run's plugs that are not loaded; vaectl loads no file by itself."""
    kinds = {kind.kind: kind for kind in Plug.__subclasses__()}
    return [
        plug
        for plug in plugs
        if plug.kind not in kinds or not plugins.is_known(kinds[plug.kind], plug.name)
    ]


def refuse_others(folder: Folder, made: belongings.Made) -> None:
    """Refuse to replace a run if that would overwrite files that vaectl did not make.

    Raises:
        RunError: there is such a file.
        OSError: the directory cannot be read.
    """
    for name in belongings.others(folder, made):
        _refuse_other(folder.path / name)


def _refuse_other(path: Path) -> Never:
    raise RunError(
        f"{path}: not made by vaectl, so --force does not replace it",
        hint="move it away, or choose another --name",
    )
