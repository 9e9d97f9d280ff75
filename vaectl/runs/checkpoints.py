"""Checkpoints of a run, by Orbax; nothing else knows Orbax.

    checkpoints/2000/      the state after step 2000, as Orbax writes it
    checkpoints/2000.json  what it is, the digest of its files, and a seal on all of that

A checkpoint counts only once its JSON stands beside it. That is written last, after every byte and
every directory entry of the checkpoint is on the disk: Orbax syncs most files, but no directory.
The digest is ours: Orbax loads flipped bytes without noticing. So is the seal: a flipped digit is a
number too.

To resume exactly takes the state and, of the epochs before it, the best: a checkpoint names the
one that it goes with. Once there are two save points, any one of those kept may be damaged.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NamedTuple, Self, final

import jax
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from vaectl.base import seals
from vaectl.base.errors import RunError, remedy
from vaectl.base.files import LINK, Folder
from vaectl.base.formats import refuse_newer
from vaectl.runs import belongings
from vaectl.runs.record import ImageShape, Natural
from vaectl.training.program import TrainState

FORMAT_VERSION = 2

ANOTHER = "put it back from a copy, or choose --checkpoint latest, best, or an epoch's number"

DAMAGED = (errno.ENOENT, errno.ENOTDIR, errno.EFBIG, errno.EINVAL)
"""What reading ends in where a file is gone, too large, or none: no other time will help."""


def _grown(sums: Any) -> Any:
    """Read sums of before terms had names."""
    return dict(zip(("kl", "nll"), sums, strict=True)) if isinstance(sums, list | tuple) else sums


class Info(BaseModel):
    """What stands beside a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    format_version: int = FORMAT_VERSION
    epoch: Natural
    """The last one that ended."""
    step: Natural
    beyond: Natural = 0
    """Steps since that epoch's end."""
    sums: Annotated[dict[str, float], BeforeValidator(_grown)] = {}
    """Terms over the images of those steps, in nats; JSON keeps every bit of them."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """That those steps took."""
    quantity: str = "elbo"
    """The number of the validation split by which states are compared."""
    score: float | None = Field(validation_alias=AliasChoices("score", "validation_elbo"))
    """That number, in nats per image, of this state; None inside an epoch."""
    best: Natural | None = None
    """The step of the best state so far; None before the first epoch's end."""
    image_shape: ImageShape | None = None
    """Of an image; None where an older vaectl saved it."""
    metrics: str = ""
    """SHA-256 of the lines of metrics.csv until that epoch."""
    layout: str = ""
    """SHA-256 of the names, types and shapes of the arrays."""
    size: Natural = 0
    """Bytes of the files; 0 where an older vaectl saved it."""
    digest: str = ""
    """SHA-256 of the files."""

    @property
    def where(self) -> str:
        """Where in the training it is, for a person."""
        return f"epoch {self.epoch}" + (f" + {self.beyond} steps" if self.beyond else "")

    @property
    def needs(self) -> set[int]:
        """The steps of the checkpoints that are needed to resume from this one exactly."""
        return {self.step} | ({self.best} if self.best is not None else set())


BEGINNING = Info(epoch=0, step=0, score=None)
"""What would stand beside the state before the first step."""


_PART = re.compile(r"\d+(\.json|\.orbax-checkpoint-tmp.*)?")
"""The names of what belongs to a step."""


class Found(NamedTuple):
    """What there is to resume from."""

    intact: list[Info]
    """Checkpoints to keep, by step; the last is the one to resume from, if there is any."""
    warnings: list[str]
    """One for each that is no good, and for what is lost with it."""


@final
class Checkpoints:
    """The checkpoints of one run: the latest, the best by validation ELBO, and what guards them.

    Saving happens in the background; leaving the context waits for it.
    """

    def __init__(self, folder: Folder) -> None:
        check_place(folder.path)
        self._folder = folder
        self._thread = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None
        self._quiet = quiet_orbax()

    @functools.cached_property
    def _orbax(self) -> Any:
        import orbax.checkpoint  # takes half a second, which the first epoch need not wait for

        return orbax.checkpoint.StandardCheckpointer()

    def __enter__(self) -> Self:
        self._quiet.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.commit()
        except RunError:
            # an error on its way out says more than that the last save failed too
            if error is None:
                raise
        finally:
            self._thread.shutdown()
            if "_orbax" in vars(self):
                # a save that failed, which was told, it raises again
                with contextlib.suppress(Exception):
                    self._orbax.close()
            self._quiet.__exit__(None, None, None)

    def save(self, state: TrainState, info: Info, first: Callable[[], None] = lambda: None) -> None:
        """Save a state; it may be donated as soon as this returns.

        Args:
            state: what to save.
            info: what it is.
            first: called in the background before the checkpoint counts, to make durable what
                belongs with it.

        Raises:
            RunError: it, or the one before it, cannot be written.
        """
        self.commit()
        name = str(info.step)
        for there in _of_step(self._folder, info.step):
            raise RunError(
                f"{self._folder.path / there}: it is there already, and in the way of a checkpoint",
                hint="move it away, and resume",
            )
        with self._writing(name):
            self._folder.make()
            self._orbax.save(self._folder.path.absolute() / name, state)  # takes no relative paths
        info = info.model_copy(update={"layout": layout(state)})
        self._saving = self._thread.submit(self._finish, info, first)

    def commit(self) -> None:
        """Wait for the save under way.

        Raises:
            RunError: it cannot be written; those before it still count.
        """
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def _finish(self, info: Info, first: Callable[[], None]) -> None:
        """Make a save count once it is whole and on the disk, and drop those that it supersedes."""
        name = str(info.step)
        first()
        with self._writing(name):
            self._orbax.wait_until_finished()
            self._folder.sync(name)
            self._folder.sync_names()
            files = self._folder.folder(name)
            info = info.model_copy(update={"size": _size(files), "digest": digest(files)})
            with self._folder.replacing(f"{name}.json") as file:
                fields = seals.sealed(info.model_dump(mode="json"))
                file.write(json.dumps(fields, indent=2).encode() + b"\n")
        with contextlib.suppress(RunError):  # what is too much does no harm
            keep_only(self._folder, _needed(kept(self._folder)))

    def restore(self, info: Info, like: TrainState) -> TrainState:
        """Check a checkpoint against its digest, and load it.

        Args:
            info: one of `kept`.
            like: shapes, types and shardings of the state, as `jax.ShapeDtypeStruct`s.

        Raises:
            RunError: it is not what was saved, cannot be read, or is of other shapes.
        """
        path = self._folder.path / str(info.step)
        try:
            intact = is_intact(self._folder.folder(path.name), info)
        except OSError as error:
            raise RunError(
                f"{error.filename}: the checkpoint cannot be read: {error.strerror}",
                hint=ANOTHER,
            ) from None
        if not intact:
            raise RunError(
                f"{path}: the checkpoint is damaged: its files are not those that were saved",
                hint=ANOTHER,
            )
        if layout(like) != info.layout:
            raise RunError(
                f"{path}: the checkpoint does not fit config.yaml and run.json: its arrays have "
                "other shapes",
                hint="was one of them changed after training? Put the old one back",
            )
        try:
            state: TrainState = self._orbax.restore(path.absolute(), like)
        except Exception as error:  # Orbax and its backends raise whatever they meet
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunError(
                f"{path}: the checkpoint does not load: {reason}", hint=ANOTHER
            ) from error
        return state

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Tell what went wrong with a save, and remove what there is of it."""
        try:
            yield
        except Exception as error:  # Orbax and its backends raise whatever they meet
            # on a full disk, make room to say what happened
            with contextlib.suppress(OSError, RunError):
                for half in _of_step(self._folder, int(name)):
                    if _is_ours(self._folder, half):
                        self._folder.remove(half)
            # TensorStore strings causes together, then its settings; the last is the system's
            causes = str(error).partition(" [")[0]
            reason = error.strerror if isinstance(error, OSError) else causes.rpartition(": ")[2]
            raise RunError(
                f"{self._folder.path / name}: the checkpoint cannot be written: "
                f"{reason or type(error).__name__}",
                hint=f"what was saved before is intact in {self._folder.path}",
            ) from error


def check_place(directory: Path, *, to_save: bool = False) -> None:
    """Refuse a path that Orbax reads in its own way.

    Args:
        directory: where checkpoints are, or will be below.
        to_save: whether they will be saved there. Out of x[2], say, Orbax loads what was moved
            there, but what it saves there it has lost.

    Raises:
        RunError: it is one.
    """
    try:
        str(directory.absolute()).encode()
    except UnicodeEncodeError:
        raise RunError(
            f"{directory.absolute()}: its path is not UTF-8 text, which Orbax needs",
            hint="rename what it stands in, or choose another --runs-dir",
        ) from None
    if "\\" in str(directory.absolute()):
        raise RunError(
            f"{directory.absolute()}: a backslash in its path, which Orbax takes for a slash",
            hint="rename what it stands in, or choose another --runs-dir",
        )
    if to_save and glob.escape(str(directory.absolute())) != str(directory.absolute()):
        raise RunError(
            f"{directory.absolute()}: one of * ? [ in its path, which Orbax takes for a pattern",
            hint="rename what it stands in, or choose another --runs-dir",
        )


def kept(folder: Folder) -> list[Info]:
    """All checkpoints that count, by step; of one that was deleted since, the JSON may be left.

    Raises:
        RunError: one cannot be read, or all that there are, are of a newer format.
    """
    infos, newer = [], None
    for name in _parts(folder):
        if not name.endswith(".json"):
            continue
        try:
            content = folder.read(name, 2**16)
            refuse_newer(folder.path / name, content, FORMAT_VERSION)
            info = Info.model_validate_json(content)
            seals.check(content)
            kind = folder.kind(str(info.step))
            if kind == "link":
                raise OSError(errno.ELOOP, LINK, str(folder.path / str(info.step)))
        except RunError as error:
            newer = error
            continue
        except OSError as error:
            _refuse_unreadable(folder.path / name, error)
            continue
        except ValueError:
            continue
        # its JSON goes before a checkpoint does, so a directory that is gone is damage
        if name == f"{info.step}.json" and kind in ("folder", None):
            infos.append(info)
    if newer and not infos:
        raise newer
    return sorted(infos, key=lambda info: info.step)


def best(infos: list[Info]) -> Info | None:
    """The checkpoint of the highest score, the earliest of equals."""
    ends = [info for info in infos if info.score is not None]
    return max(ends, key=lambda info: (info.score or 0.0, -info.step), default=None)


def find_intact(folder: Folder) -> Found:
    """Find the checkpoint to resume from: the last that is intact, and the best before it too.

    Raises:
        RunError: there are checkpoints, but none is good, or one cannot be read.
    """
    intact = [info for info in kept(folder) if _is_intact(folder, info)]
    good = {info.step for info in intact}
    parts = _parts(folder)
    newer = _newer(folder)
    bad = {_step(name) for name in parts if _is_ours(folder, name)} - good - newer
    warnings = [
        f"{folder.path / str(step)}: the checkpoint is damaged or half written, and not used"
        for step in sorted(bad)
    ]
    warnings += [
        f"{folder.path / str(step)}: the checkpoint is of a newer vaectl, and left alone"
        for step in sorted(newer)
    ]
    warnings += [
        f"{folder.path / name}: not a checkpoint of vaectl's, and left alone"
        for name in parts
        if not _is_ours(folder, name)
    ]
    if not intact:
        # without its JSON a checkpoint never counted: the run was killed before the first one did
        if any(name.endswith(".json") for name in parts):
            raise RunError(
                "\n".join([f"{folder.path}: none of the checkpoints is good", *warnings]),
                hint="put them back from a copy, or train again under another --name",
            )
        return Found([], warnings)
    exact = [info for info in intact if info.needs <= good]
    last = exact[-1] if exact else intact[-1]
    if not exact:
        warnings.append(f"the best state so far, of step {last.best}, is lost with it")
    return Found([info for info in intact if info.step <= last.step], warnings)


def keep_only(folder: Folder, steps: set[int]) -> None:
    """Delete checkpoints of other steps, damaged ones, and what kills left behind of them.

    What vaectl did not make stays.

    Raises:
        RunError: it cannot be deleted.
    """
    try:
        stay = steps | _newer(folder)
        of_others = [name for name in _parts(folder) if _step(name) not in stay]
        ours = [name for name in of_others if _is_ours(folder, name)]
        # first it stops counting, then it goes
        counting = [name for name in ours if name.endswith(".json")]
        for name in counting:
            folder.remove(name)
        if counting:
            folder.sync_names()
        for name in ours:
            if name not in counting:
                folder.remove(name)
        if ours:
            folder.sync_names()
    except OSError as error:
        raise RunError(
            f"{error.filename}: cannot be deleted: {error.strerror}", hint=remedy(error)
        ) from None


def _parts(folder: Folder) -> list[str]:
    """All names that may belong to some step: its JSON, its directory, what Orbax began to write.

    Raises:
        RunError: it cannot be known.
    """
    try:
        return [name for name in folder.names() if _PART.fullmatch(name)]
    except OSError as error:
        _refuse_unreadable(folder.path, error)
        return []


def _newer(folder: Folder) -> set[int]:
    """The steps of checkpoints that a newer vaectl saved."""
    found = set()
    for name in _parts(folder):
        with contextlib.suppress(OSError):
            if name.endswith(".json"):
                try:
                    refuse_newer(folder.path / name, folder.read(name, 2**16), FORMAT_VERSION)
                except RunError:
                    found.add(_step(name))
    return found


def refuse_blocked(folder: Folder, after: int, until: int) -> None:
    """Refuse to train where something that vaectl did not make is in the way of a checkpoint.

    Args:
        folder: where checkpoints go.
        after: the step that training goes on from.
        until: its last step.

    Raises:
        RunError: something stands under the name of a step between them.
    """
    for name in _parts(folder):
        if after < _step(name) <= until and not _is_ours(folder, name):
            raise RunError(
                f"{folder.path / name}: in the way of a checkpoint, and not vaectl's",
                hint="move it away, and resume",
            )


def _of_step(folder: Folder, step: int) -> list[str]:
    return [name for name in _parts(folder) if _step(name) == step]


def _step(name: str) -> int:
    return int(name.partition(".")[0])


def _is_ours(folder: Folder, name: str) -> bool:
    """Tell whether something is of a checkpoint that vaectl saved, or was saving.

    Raises:
        RunError: it cannot be known.
    """
    try:
        made = belongings.is_made(folder, name, belongings.CHECKPOINTS)
        return made or belongings.is_checkpoint(folder, name)
    except OSError as error:
        _refuse_unreadable(folder.path / name, error)
        return False


def _needed(infos: list[Info]) -> set[int]:
    """The steps that let any one checkpoint be damaged, and the run still be resumed exactly."""
    last = infos[-1]
    without = (
        next((info.needs for info in reversed(infos) if step not in info.needs), set())
        for step in last.needs
    )
    return last.needs.union(*without)


def _is_intact(folder: Folder, info: Info) -> bool:
    try:
        return is_intact(folder.folder(str(info.step)), info)
    except OSError as error:
        _refuse_unreadable(folder.path / str(info.step), error)
        return False


def _refuse_unreadable(path: Path, error: OSError) -> None:
    """Tell what is damaged or gone from what another time, or another user, may read.

    Raises:
        RunError: it is of the second kind; to delete it would be to lose it.
    """
    if error.errno not in DAMAGED:
        raise RunError(
            f"{error.filename or path}: cannot be read: {error.strerror}",
            hint="put the files themselves in its place"
            if error.errno == errno.ELOOP
            else "mend the disk or the permissions, and try again; if it is lost, delete it",
        ) from None


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Silence what Orbax prints about a write that failed: it raises the same error.

    It logs a traceback; it drops coroutines that nobody awaits; and it closes its event loop while
    TensorStore, whose other writes end later, still calls into it. What was set in this process
    before holds again once the context is left.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    hook = sys.unraisablehook

    def show(unraisable: sys.UnraisableHookArgs) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        sys.unraisablehook = show
        try:
            yield
        finally:
            sys.unraisablehook = hook
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def layout(state: TrainState) -> str:
    """SHA-256 of the path, type and shape of each array of a state."""
    result = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        result.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}\n".encode())
    return result.hexdigest()


def is_intact(files: Folder, info: Info) -> bool:
    """Tell whether the files of a checkpoint are those that were saved.

    Raises:
        OSError: a file cannot be read, or there is something that is none.
    """
    # first the sizes: a file with a hole in it may be of terabytes
    return (not info.size or _size(files) == info.size) and digest(files) == info.digest


def _size(files: Folder) -> int:
    total = 0
    for path, _ in files.walk():
        with files.open(path) as file:
            total += os.fstat(file.fileno()).st_size
    return total


def digest(folder: Folder) -> str:
    """SHA-256 of a directory: of the path, size and bytes of each file, in order of paths.

    Raises:
        OSError: a file cannot be read, or there is something that is none.
    """
    result = hashlib.sha256()
    for path in sorted((path for path, _ in folder.walk()), key=lambda path: path.split("/")):
        with folder.open(path) as file:
            size = os.fstat(file.fileno()).st_size
            result.update(f"{path} {size}\n".encode())
            hashlib.file_digest(file, lambda: result)  # in blocks: a file may be of gigabytes
    return result.hexdigest()
