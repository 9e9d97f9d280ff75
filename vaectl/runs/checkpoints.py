"""Checkpoints of a run; the only module that uses Orbax.

    checkpoints/2000/      the state after step 2000, written by Orbax
    checkpoints/2000.json  its description, the digest of its files, and a seal of both

A checkpoint counts once its JSON file exists. That file is written last, after all files and
directory entries of the checkpoint are on the disk; Orbax syncs most files, but no directories.
The digest finds changed bytes, which Orbax loads without an error; the seal finds changes of the
JSON file.

To resume exactly, the state and the best state before it are needed, so each checkpoint names the
step of its best one. After two saves, any one of the checkpoints that are kept may be damaged.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NamedTuple, Self, final

import jax
import numpy as np
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from vaectl.base import cluster, seals
from vaectl.base.errors import RunError
from vaectl.base.files import LINK, Folder
from vaectl.base.formats import refuse_newer
from vaectl.runs import belongings
from vaectl.runs.record import ImageShape, Natural
from vaectl.training.program import TrainState

FORMAT_VERSION = 2

ANOTHER = "restore it from a copy, or choose --checkpoint latest, best, or an epoch's number"

DAMAGED = (errno.ENOENT, errno.ENOTDIR, errno.EFBIG, errno.EINVAL)
"""Errors of reading a file that is missing, too large or not a file; trying again does not help."""


def _grown(sums: Any) -> Any:
    """Read the sums of an older vaectl, in which terms had no names."""
    return dict(zip(("kl", "nll"), sums, strict=True)) if isinstance(sums, list | tuple) else sums


class Info(BaseModel):
    """The description of a checkpoint, in the JSON file beside it."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    format_version: int = FORMAT_VERSION
    epoch: Natural
    """The last epoch that ended."""
    step: Natural
    beyond: Natural = 0
    """Steps since the end of that epoch."""
    sums: Annotated[dict[str, float], BeforeValidator(_grown)] = {}
    """Sums of the terms over the images of those steps, in nats; JSON keeps every bit."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that those steps took."""
    quantity: str = "elbo"
    """The term of the validation split by which states are compared."""
    score: float | None = Field(validation_alias=AliasChoices("score", "validation_elbo"))
    """Its value for this state, in nats per image; None inside an epoch."""
    best: Natural | None = None
    """The step of the best state so far; None before the end of the first epoch."""
    image_shape: ImageShape | None = None
    """The shape of an image; None if an older vaectl saved it."""
    imported: bool = False
    """True if the state came from a file, and was not trained here."""
    metrics: str = ""
    """SHA-256 of the lines of metrics.csv up to that epoch."""
    layout: str = ""
    """SHA-256 of the names, types and shapes of the arrays."""
    size: Natural = 0
    """Bytes of the files; 0 if an older vaectl saved it."""
    digest: str = ""
    """SHA-256 of the files."""

    @property
    def where(self) -> str:
        """The place in the training, in words."""
        if self.imported:
            return "imported"
        return f"epoch {self.epoch}" + (f" + {self.beyond} steps" if self.beyond else "")

    @property
    def needs(self) -> set[int]:
        """The steps of the checkpoints that are needed to resume exactly from this one."""
        return {self.step} | ({self.best} if self.best is not None else set())


BEGINNING = Info(epoch=0, step=0, score=None)
"""The description of the state before the first step."""


_PART = re.compile(r"\d+(\.json|\.orbax-checkpoint-tmp.*)?")
"""Names of files and directories that belong to the checkpoint of a step."""


class Found(NamedTuple):
    """The checkpoints from which a run can be resumed."""

    intact: list[Info]
    """The checkpoints to keep, by step; the last one is the one to resume from."""
    warnings: list[str]
    """Messages about checkpoints that are not used, and about a best state that is lost."""


@final
class Checkpoints:
    """The checkpoints of one run: the latest, the best, and copies in case one is damaged; or all.

    States are saved in the background; leaving the context waits for that.
    """

    def __init__(self, folder: Folder, *, keep_all: bool = False) -> None:
        check_place(folder.path)
        self._keep_all = keep_all
        self._folder = folder
        self._thread = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None

    @functools.cached_property
    def _orbax(self) -> Any:
        import orbax.checkpoint  # takes half a second, so not before the first save

        if cluster.is_alone():
            return orbax.checkpoint.StandardCheckpointer()
        # of processes that train together only the first one saves, and waits for no other
        alone = orbax.checkpoint.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
        )
        return orbax.checkpoint.StandardCheckpointer(multiprocessing_options=alone)

    def __enter__(self) -> Self:
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
            # an error that is being raised matters more than the last save
            if error is None:
                raise
        finally:
            self._thread.shutdown()
            if "_orbax" in vars(self):
                # it raises the error of a failed save again
                with contextlib.suppress(Exception):
                    self._orbax.close()

    def save(self, state: TrainState, info: Info, first: Callable[[], None] = lambda: None) -> None:
        """Save a state; it may be donated as soon as this returns.

        Args:
            state: the state to save.
            info: its description.
            first: called in the background before the checkpoint counts, to make files durable
                that belong to it.

        Raises:
            RunError: this state, or the one saved before it, cannot be written.
        """
        self.commit()
        name = str(info.step)
        for there in _of_step(self._folder, info.step):
            raise RunError(
                f"{self._folder.path / there}: exists already, and is in the way of a checkpoint",
                hint="move it away, and resume",
            )
        if not cluster.is_alone():  # Orbax takes no arrays on the devices of one process only
            state = jax.tree.map(np.asarray, state)
        with self._writing(name):
            self._folder.make()
            self._orbax.save(self._folder.path.absolute() / name, state)  # takes no relative paths
        info = info.model_copy(update={"layout": layout(state)})
        self._saving = self._thread.submit(self._finish, info, first)

    def commit(self) -> None:
        """Wait for the current save.

        Raises:
            RunError: it cannot be written; earlier checkpoints still count.
        """
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def _finish(self, info: Info, first: Callable[[], None]) -> None:
        """Write the description once a checkpoint is on the disk, and delete superseded ones."""
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
        if not self._keep_all:
            with contextlib.suppress(RunError):  # checkpoints that could not be deleted do no harm
                keep_only(self._folder, _needed(kept(self._folder)))

    def restore(self, info: Info, like: TrainState) -> TrainState:
        """Check a checkpoint against its digest, and load it.

        Args:
            info: a checkpoint from `kept`.
            like: shapes, types and shardings of the state, as `jax.ShapeDtypeStruct`s.

        Raises:
            RunError: the checkpoint was changed, cannot be read, or has other shapes.
        """
        path = self._folder.path / str(info.step)
        try:
            intact = is_intact(self._folder.folder(path.name), info)
        except OSError as error:
            raise RunError.of(error, None, "the checkpoint cannot be read", hint=ANOTHER) from None
        if not intact:
            raise RunError(
                f"{path}: the checkpoint is damaged: its files are not those that were saved",
                hint=ANOTHER,
            )
        if layout(like) != info.layout:
            raise RunError(
                f"{path}: the checkpoint does not fit config.yaml and run.json: its arrays have "
                "other shapes",
                hint="if one of them was changed after training, restore it",
            )
        try:
            state: TrainState = self._orbax.restore(path.absolute(), like)
        except Exception as error:  # Orbax and its backends may raise anything
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunError(
                f"{path}: the checkpoint does not load: {reason}", hint=ANOTHER
            ) from error
        return state

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Turn an error of a save into a RunError, and remove what was written of it."""
        try:
            yield
        except Exception as error:  # Orbax and its backends may raise anything
            # on a full disk, this makes room for the record of the failure
            with contextlib.suppress(OSError, RunError):
                for half in _of_step(self._folder, int(name)):
                    if _is_ours(self._folder, half):
                        self._folder.remove(half)
            # TensorStore joins causes and then its settings; the last cause is the system's
            causes = str(error).partition(" [")[0]
            reason = error.strerror if isinstance(error, OSError) else causes.rpartition(": ")[2]
            raise RunError(
                f"{self._folder.path / name}: the checkpoint cannot be written: "
                f"{reason or type(error).__name__}",
                hint=f"what was saved before is intact in {self._folder.path}",
            ) from error


def check_place(directory: Path, *, to_save: bool = False) -> None:
    """Refuse a path that Orbax would misread.

    Args:
        directory: the directory of checkpoints, or one above it.
        to_save: whether checkpoints will be saved there. In a directory such as x[2], Orbax can
            load checkpoints, but loses what it saves.

    Raises:
        RunError: Orbax would misread the path.
    """
    try:
        str(directory.absolute()).encode()
    except OSError:
        raise RunError(
            f"{directory}: the current directory was deleted, and this path is relative to it",
            hint="cd to another directory",
        ) from None
    except UnicodeEncodeError:
        raise RunError(
            f"{directory.absolute()}: its path is not UTF-8 text, which Orbax needs",
            hint="rename the directory, or choose another --runs-dir",
        ) from None
    if "\\" in str(directory.absolute()):
        raise RunError(
            f"{directory.absolute()}: a backslash in its path, which Orbax takes for a slash",
            hint="rename the directory, or choose another --runs-dir",
        )
    if to_save and glob.escape(str(directory.absolute())) != str(directory.absolute()):
        raise RunError(
            f"{directory.absolute()}: one of * ? [ in its path, which Orbax takes for a pattern",
            hint="rename the directory, or choose another --runs-dir",
        )


def kept(folder: Folder) -> list[Info]:
    """Return the checkpoints that count, by step, including those whose files were deleted.

    Raises:
        RunError: a checkpoint cannot be read, or all of them are of a newer format.
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
        # vaectl deletes the JSON first, so a missing directory is damage
        if name == f"{info.step}.json" and kind in ("folder", None):
            infos.append(info)
    if newer and not infos:
        raise newer
    return sorted(infos, key=lambda info: info.step)


def best(infos: list[Info]) -> Info | None:
    """Return the checkpoint of the highest score, the earliest of equal ones."""
    ends = [info for info in infos if info.score is not None]
    return max(ends, key=lambda info: (info.score or 0.0, -info.step), default=None)


def find_intact(folder: Folder) -> Found:
    """Find the last checkpoint that is intact and whose best one is intact too.

    Raises:
        RunError: none of the checkpoints is intact, or one cannot be read.
    """
    intact = [info for info in kept(folder) if _is_intact(folder, info)]
    good = {info.step for info in intact}
    parts = _parts(folder)
    newer = _newer(folder)
    bad = {_step(name) for name in parts if _is_ours(folder, name)} - good - newer
    warnings = [
        f"{folder.path / str(step)}: the checkpoint is damaged or incomplete, and not used"
        for step in sorted(bad)
    ]
    warnings += [
        f"{folder.path / str(step)}: the checkpoint is of a newer vaectl, and not touched"
        for step in sorted(newer)
    ]
    warnings += [
        f"{folder.path / name}: not a checkpoint made by vaectl, and not touched"
        for name in parts
        if not _is_ours(folder, name)
    ]
    if not intact:
        # without any JSON no checkpoint ever counted: the run was killed before the first one did
        if any(name.endswith(".json") for name in parts):
            raise RunError(
                "\n".join([f"{folder.path}: none of the checkpoints is intact", *warnings]),
                hint="restore them from a copy, or train again under another --name",
            )
        return Found([], warnings)
    exact = [info for info in intact if info.needs <= good]
    last = exact[-1] if exact else intact[-1]
    if not exact:
        warnings.append(f"the best state so far, of step {last.best}, is lost with it")
    if later := [str(info.step) for info in intact if info.step > last.step]:
        warnings.append(
            f"{folder.path}: what follows step {last.step} is trained again, although the "
            f"checkpoints of step {', '.join(later)} are intact: the best state before them is not"
        )
    return Found([info for info in intact if info.step <= last.step], warnings)


def keep_only(folder: Folder, steps: set[int]) -> None:
    """Delete all other checkpoints, including incomplete ones; keep files vaectl did not make.

    Raises:
        RunError: a file cannot be deleted.
    """
    try:
        stay = steps | _newer(folder)
        of_others = [name for name in _parts(folder) if _step(name) not in stay]
        ours = [name for name in of_others if _is_ours(folder, name)]
        # without its JSON a checkpoint does not count, so that goes first
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
        raise RunError.of(error, what="cannot be deleted") from None


def _parts(folder: Folder) -> list[str]:
    """Return the names that may belong to a checkpoint: JSON files and directories.

    Raises:
        RunError: the folder cannot be read.
    """
    try:
        return [name for name in folder.names() if _PART.fullmatch(name)]
    except OSError as error:
        _refuse_unreadable(folder.path, error)
        return []


def _newer(folder: Folder) -> set[int]:
    """Return the steps of checkpoints that a newer vaectl saved."""
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
    """Refuse to train if a file that vaectl did not make is in the way of a checkpoint.

    Args:
        folder: the folder of checkpoints.
        after: the step from which training continues.
        until: its last step.

    Raises:
        RunError: there is such a file, named after a step between the two.
    """
    for name in _parts(folder):
        if after < _step(name) <= until and not _is_ours(folder, name):
            raise RunError(
                f"{folder.path / name}: in the way of a checkpoint, and not made by vaectl",
                hint="move it away, and resume",
            )


def _of_step(folder: Folder, step: int) -> list[str]:
    return [name for name in _parts(folder) if _step(name) == step]


def _step(name: str) -> int:
    return int(name.partition(".")[0])


def _is_ours(folder: Folder, name: str) -> bool:
    """Tell whether vaectl made an entry of the folder.

    Raises:
        RunError: the entry cannot be read.
    """
    try:
        made = belongings.is_made(folder, name, belongings.CHECKPOINTS)
        return made or belongings.is_checkpoint(folder, name)
    except OSError as error:
        _refuse_unreadable(folder.path / name, error)
        return False


def _needed(infos: list[Info]) -> set[int]:
    """Return the steps to keep, so that the run can be resumed even if one of them is damaged."""
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
    """Refuse a file that may be readable later or by another user; pass one that is damaged.

    Raises:
        RunError: the file may be readable later; deleting it now would lose it.
    """
    if error.errno not in DAMAGED:
        raise RunError.of(
            error,
            error.filename or path,
            hint="fix the disk or the permissions, and try again; if it is lost, delete it",
        ) from None


def layout(state: TrainState) -> str:
    """Return the SHA-256 of the path, type and shape of each array of a state."""
    result = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        result.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}\n".encode())
    return result.hexdigest()


def is_intact(files: Folder, info: Info) -> bool:
    """Tell whether the files of a checkpoint are those that were saved.

    Raises:
        OSError: a file cannot be read, or an entry is not a file.
    """
    # sizes first: a sparse file may have terabytes
    return (not info.size or _size(files) == info.size) and digest(files) == info.digest


def _size(files: Folder) -> int:
    total = 0
    for path, _ in files.walk():
        with files.open(path) as file:
            total += os.fstat(file.fileno()).st_size
    return total


def digest(folder: Folder) -> str:
    """Return the SHA-256 of the path, size and bytes of each file, in order of paths.

    Raises:
        OSError: a file cannot be read, or an entry is not a file.
    """
    result = hashlib.sha256()
    for path in sorted((path for path, _ in folder.walk()), key=lambda path: path.split("/")):
        with folder.open(path) as file:
            size = os.fstat(file.fileno()).st_size
            result.update(f"{path} {size}\n".encode())
            hashlib.file_digest(file, lambda: result)  # in blocks: a file may have gigabytes
    return result.hexdigest()
