"""Checkpoints of a run, by Orbax; nothing else knows Orbax.

    checkpoints/2000/      the state after step 2000, as Orbax writes it
    checkpoints/2000.json  what it is, and the digest of its files

A checkpoint counts only once its JSON stands beside it, and that is written last. The digest is
ours: Orbax loads flipped bytes without noticing.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, final

import jax
import orbax.checkpoint as ocp
from pydantic import BaseModel, ConfigDict, ValidationError

from vaectl.errors import RunError
from vaectl.files import read, replacing
from vaectl.training import TrainState

FORMAT_VERSION = 1


class Info(BaseModel):
    """What stands beside a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    format_version: int = FORMAT_VERSION
    epoch: int
    step: int
    validation_elbo: float
    """In nats per image, of this state."""
    layout: str = ""
    """SHA-256 of the names, types and shapes of the arrays."""
    digest: str = ""
    """SHA-256 of the files."""


@final
class Checkpoints:
    """The checkpoints of one run: the latest, and the best by validation ELBO.

    Saving happens in the background; leaving the context waits for it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()  # Orbax takes no relative paths
        if "\\" in str(self._directory):
            raise RunError(
                f"{self._directory}: a backslash in its path, which Orbax takes for a slash",
                hint="rename what it stands in, or choose another --runs-dir",
            )
        self._orbax = ocp.StandardCheckpointer()
        self._pending: Info | None = None
        # what Orbax logs as an error, with a traceback, it raises too
        for logger in ("absl", "asyncio"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)

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
            self._orbax.close()

    def __contains__(self, step: int) -> bool:
        """Whether a step is saved, or being saved."""
        pending = self._pending is not None and self._pending.step == step
        return pending or any(info.step == step for info in self.list())

    def save(self, state: TrainState, info: Info) -> None:
        """Save a state; it may be donated as soon as this returns.

        Raises:
            RunError: it, or the one before it, cannot be written.
        """
        self.commit()
        path = self._directory / str(info.step)
        with _writing(path):
            self._directory.mkdir(exist_ok=True)
            self._orbax.save(path, state, force=True)
        self._pending = info.model_copy(update={"layout": layout(state)})

    def commit(self) -> None:
        """Wait for the save under way, make it count, and drop those that it supersedes.

        Raises:
            RunError: it cannot be written; those before it still count.
        """
        if self._pending is None:
            return
        info, self._pending = self._pending, None
        path = self._directory / str(info.step)
        with _writing(path):
            self._orbax.wait_until_finished()
            info = info.model_copy(update={"digest": digest(path)})
            with replacing(self._directory / f"{info.step}.json") as file:
                file.write(info.model_dump_json(indent=2).encode() + b"\n")
            self._drop_superseded()

    def _drop_superseded(self) -> None:
        infos = self.list()
        keep = {infos[-1].step, best(infos).step}
        for old in infos:
            if old.step not in keep:
                # first it stops counting, then it goes
                (self._directory / f"{old.step}.json").unlink()
                shutil.rmtree(self._directory / str(old.step))

    def list(self) -> list[Info]:
        """All checkpoints that count, by step."""
        infos = []
        for file in self._directory.glob("*.json"):
            try:
                info = Info.model_validate_json(read(file, 2**16))
            except (OSError, ValidationError):
                continue
            if (self._directory / str(info.step)).is_dir():
                infos.append(info)
        return sorted(infos, key=lambda info: info.step)

    def restore(self, info: Info, like: TrainState) -> TrainState:
        """Check a checkpoint against its digest, and load it.

        Args:
            info: one of `list()`.
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


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Orbax and its backends raise whatever they meet
        # TensorStore strings causes together, then its settings; the last cause is the system's
        causes = str(error).partition(" [")[0]
        reason = error.strerror if isinstance(error, OSError) else causes.rpartition(": ")[2]
        raise RunError(
            f"{path}: the checkpoint cannot be written: {reason or type(error).__name__}",
            hint=f"what was saved before is intact in {path.parent}",
        ) from error


def best(infos: list[Info]) -> Info:
    """The checkpoint of the highest validation ELBO, the earliest of equals."""
    return max(infos, key=lambda info: (info.validation_elbo, -info.step))


def layout(state: TrainState) -> str:
    """SHA-256 of the path, type and shape of each array of a state."""
    result = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        result.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}\n".encode())
    return result.hexdigest()


def digest(directory: Path) -> str:
    """SHA-256 of a directory: of the path, size and bytes of each file, in order of paths."""
    result = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        content = path.read_bytes()
        result.update(f"{path.relative_to(directory).as_posix()} {len(content)}\n".encode())
        result.update(content)
    return result.hexdigest()
