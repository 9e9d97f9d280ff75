"""Checkpoints of a run, by Orbax; nothing else knows Orbax.

    checkpoints/2000/      the state after step 2000, as Orbax writes it
    checkpoints/2000.json  what it is, the digest of its files, and a seal on all of that

A checkpoint counts only once its JSON stands beside it, and that is written last. The digest is
ours: Orbax loads flipped bytes without noticing. So is the seal: a flipped digit is a number too.

To resume exactly takes the state and, of the epochs before it, the best: a checkpoint names the
one that it goes with. Once there are two save points, any one of those kept may be damaged.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, final

import jax
from pydantic import BaseModel, ConfigDict

from vaectl import seals
from vaectl.errors import RunError
from vaectl.files import read, regular, replacing
from vaectl.formats import refuse_newer
from vaectl.training import TrainState

FORMAT_VERSION = 1

DAMAGED = (errno.ENOENT, errno.ENOTDIR, errno.EFBIG, errno.EINVAL)
"""What reading ends in where a file is gone, too large, or none: no other time will help."""


class Info(BaseModel):
    """What stands beside a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    format_version: int = FORMAT_VERSION
    epoch: int
    """The last one that ended."""
    step: int
    beyond: int = 0
    """Steps since that epoch's end."""
    sums: tuple[float, float] = (0.0, 0.0)
    """KL and NLL over the images of those steps, in nats; JSON keeps every bit of them."""
    seconds: float = 0.0
    """That those steps took."""
    validation_elbo: float | None
    """In nats per image, of this state; None inside an epoch."""
    best: int | None = None
    """The step of the best state so far; None before the first epoch's end."""
    layout: str = ""
    """SHA-256 of the names, types and shapes of the arrays."""
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


BEGINNING = Info(epoch=0, step=0, validation_elbo=None)
"""What would stand beside the state before the first step."""


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

    def __init__(self, directory: Path) -> None:
        check_place(directory)
        self._directory = directory.absolute()  # Orbax takes no relative paths
        self._thread = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None
        # what Orbax logs as an error, with a traceback, it raises too
        for logger in ("absl", "asyncio"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        sys.unraisablehook = _show_unraisable

    @functools.cached_property
    def _orbax(self) -> Any:
        import orbax.checkpoint  # takes half a second, which the first epoch need not wait for

        return orbax.checkpoint.StandardCheckpointer()

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
            # an error on its way out says more than that the last save failed too
            if error is None:
                raise
        finally:
            self._thread.shutdown()
            if "_orbax" in vars(self):
                self._orbax.close()

    def save(self, state: TrainState, info: Info) -> None:
        """Save a state; it may be donated as soon as this returns.

        Raises:
            RunError: it, or the one before it, cannot be written.
        """
        self.commit()
        with _writing(self._directory / str(info.step)) as path:
            self._directory.mkdir(exist_ok=True)
            self._orbax.save(path, state)
        info = info.model_copy(update={"layout": layout(state)})
        self._saving = self._thread.submit(self._finish, info)

    def commit(self) -> None:
        """Wait for the save under way.

        Raises:
            RunError: it cannot be written; those before it still count.
        """
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def _finish(self, info: Info) -> None:
        """Make a save count once it is whole, and drop those that it supersedes."""
        with _writing(self._directory / str(info.step)) as path:
            self._orbax.wait_until_finished()
            info = info.model_copy(update={"digest": digest(path)})
            fields = info.model_dump(mode="json")
            with replacing(_json(path)) as file:
                file.write(json.dumps(seals.sealed(fields), indent=2).encode() + b"\n")
        with contextlib.suppress(RunError):  # what is too much does no harm
            keep_only(self._directory, _needed(kept(self._directory)))

    def restore(self, info: Info, like: TrainState) -> TrainState:
        """Check a checkpoint against its digest, and load it.

        Args:
            info: one of `kept`.
            like: shapes, types and shardings of the state, as `jax.ShapeDtypeStruct`s.

        Raises:
            RunError: it is not what was saved, cannot be read, or is of other shapes.
        """
        path = self._directory / str(info.step)
        try:
            intact = digest(path) == info.digest
        except OSError as error:
            raise RunError(f"{path}: the checkpoint cannot be read: {error.strerror}") from None
        if not intact:
            raise RunError(
                f"{path}: the checkpoint is damaged: its files are not those that were saved",
                hint="--checkpoint latest, or another epoch's number",
            )
        if layout(like) != info.layout:
            raise RunError(
                f"{path}: the checkpoint does not fit config.yaml: its arrays have other shapes",
                hint="was config.yaml changed after training? Put the old one back",
            )
        try:
            state: TrainState = self._orbax.restore(path, like)
        except Exception as error:  # Orbax and its backends raise whatever they meet
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunError(f"{path}: the checkpoint does not load: {reason}") from error
        return state


def check_place(directory: Path) -> None:
    """Refuse a place where Orbax would write elsewhere.

    Raises:
        RunError: it is one.
    """
    if "\\" in str(directory.absolute()):
        raise RunError(
            f"{directory.absolute()}: a backslash in its path, which Orbax takes for a slash",
            hint="rename what it stands in, or choose another --runs-dir",
        )


def kept(directory: Path) -> list[Info]:
    """All checkpoints that count, by step.

    Raises:
        RunError: one cannot be read, or all that there are, are of a newer format.
    """
    infos, newer = [], None
    for _, file in _parts(directory):
        if file.suffix != ".json":
            continue
        try:
            content = read(file, 2**16)
            refuse_newer(file, content, FORMAT_VERSION)
            info = Info.model_validate_json(content)
            seals.check(content)
        except RunError as error:
            newer = error
            continue
        except OSError as error:
            _refuse_unreadable(file, error)
            continue
        except ValueError:
            continue
        if file.stem == str(info.step) and (directory / file.stem).is_dir():
            infos.append(info)
    if newer and not infos:
        raise newer
    return sorted(infos, key=lambda info: info.step)


def best(infos: list[Info]) -> Info | None:
    """The checkpoint of the highest validation ELBO, the earliest of equals."""
    ends = [info for info in infos if info.validation_elbo is not None]
    return max(ends, key=lambda info: (info.validation_elbo or 0.0, -info.step), default=None)


def find_intact(directory: Path) -> Found:
    """Find the checkpoint to resume from: the last that is intact, and the best before it too.

    Raises:
        RunError: there are checkpoints, but none is good, or one cannot be read.
    """
    intact = [info for info in kept(directory) if _is_intact(directory, info)]
    good = {info.step for info in intact}
    bad = {step for step, _ in _parts(directory)} - good
    warnings = [
        f"{directory / str(step)}: the checkpoint is damaged, half written or of a newer vaectl, "
        "and skipped"
        for step in sorted(bad)
    ]
    if not intact:
        # without its JSON a checkpoint never counted: the run was killed before the first one did
        if any(file.suffix == ".json" for _, file in _parts(directory)):
            raise RunError(
                f"{directory}: none of the checkpoints is good",
                hint="put them back from a copy, or train again under another --name",
            )
        return Found([], warnings)
    exact = [info for info in intact if info.needs <= good]
    last = exact[-1] if exact else intact[-1]
    if not exact:
        warnings.append(f"the best state so far, of step {last.best}, is lost with it")
    return Found([info for info in intact if info.step <= last.step], warnings)


def keep_only(directory: Path, steps: set[int]) -> None:
    """Delete what is not of these steps: checkpoints, damaged ones, and what kills left behind.

    Raises:
        RunError: it cannot be deleted.
    """
    try:
        # first it stops counting, then it goes
        for step, path in sorted(_parts(directory), key=lambda part: part[1].suffix != ".json"):
            if step not in steps:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
    except OSError as error:
        raise RunError(f"{error.filename}: cannot be deleted: {error.strerror}") from None


def _parts(directory: Path) -> list[tuple[int, Path]]:
    """All that belongs to some step: its JSON, its directory, and what Orbax began to write.

    Raises:
        RunError: it cannot be known.
    """
    try:
        paths = list(directory.iterdir())
    except OSError as error:
        _refuse_unreadable(directory, error)
        return []
    split = ((path.name.partition(".")[0], path) for path in paths)
    return [(int(step), path) for step, path in split if step.isdecimal()]


def _json(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _needed(infos: list[Info]) -> set[int]:
    """The steps that let any one checkpoint be damaged, and the run still be resumed exactly."""
    last = infos[-1]
    without = (
        next((info.needs for info in reversed(infos) if step not in info.needs), set())
        for step in last.needs
    )
    return last.needs.union(*without)


def _is_intact(directory: Path, info: Info) -> bool:
    try:
        return digest(directory / str(info.step)) == info.digest
    except OSError as error:
        _refuse_unreadable(directory / str(info.step), error)
        return False


def _refuse_unreadable(path: Path, error: OSError) -> None:
    """Tell what is damaged or gone from what another time, or another user, may read.

    Raises:
        RunError: it is of the second kind; to delete it would be to lose it.
    """
    if error.errno not in DAMAGED:
        raise RunError(
            f"{error.filename or path}: cannot be read: {error.strerror}",
            hint="mend the disk or the permissions, and try again; if it is lost, delete it",
        ) from None


_unraisablehook = sys.unraisablehook


def _show_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Show what nobody can catch, but for what follows a write that failed.

    Orbax closes its event loop then, into which TensorStore calls as other writes end.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        _unraisablehook(unraisable)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Path]:
    try:
        yield path
    except Exception as error:  # Orbax and its backends raise whatever they meet
        for half in (path, *path.parent.glob(f"{path.name}.*")):
            shutil.rmtree(half, ignore_errors=True)  # on a full disk, room to say what happened
        # TensorStore strings causes together, then its settings; the last cause is the system's
        causes = str(error).partition(" [")[0]
        reason = error.strerror if isinstance(error, OSError) else causes.rpartition(": ")[2]
        raise RunError(
            f"{path}: the checkpoint cannot be written: {reason or type(error).__name__}",
            hint=f"what was saved before is intact in {path.parent}",
        ) from error


def layout(state: TrainState) -> str:
    """SHA-256 of the path, type and shape of each array of a state."""
    result = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        result.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}\n".encode())
    return result.hexdigest()


def digest(directory: Path) -> str:
    """SHA-256 of a directory: of the path, size and bytes of each file, in order of paths."""
    result = hashlib.sha256()

    def refuse(error: OSError) -> None:
        raise error

    # not rglob: it passes over what it may not read
    walk = os.walk(directory, onerror=refuse)
    for path in sorted(Path(folder, name) for folder, _, names in walk for name in names):
        with regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            result.update(f"{path.relative_to(directory).as_posix()} {size}\n".encode())
            hashlib.file_digest(file, lambda: result)  # in blocks: a file may be of gigabytes
    return result.hexdigest()
