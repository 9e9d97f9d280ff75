"""Checkpoints of a run, saved and loaded; the only module that uses Orbax.

    checkpoints/2000/      the state after step 2000, written by Orbax
    checkpoints/2000.json  its description, the digest of its files, and a seal of both

A checkpoint counts once its JSON file exists. That file is written last, after all files and
directory entries of the checkpoint are on the disk; Orbax syncs most files, but no directories.
The digest finds changed bytes, which Orbax loads without an error; the seal finds changes of the
JSON file.

To resume exactly, the state and the best state before it are needed, so each checkpoint records the
step of its best state. After two saves, a run survives damage to any one of the kept checkpoints.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, final

import jax
import numpy as np

from vaectl.base import cluster, seals
from vaectl.base.errors import RunError, first_line
from vaectl.base.files import Folder
from vaectl.runs.saved import (
    Info,
    digest,
    is_intact,
    is_ours,
    keep_only,
    kept,
    needed,
    of_step,
    size_of,
)
from vaectl.training.program import TrainState

ANOTHER = "restore it from a copy, or choose --checkpoint latest, best, or an epoch's number"

_SAVING = threading.Lock()
"""Held while a save begins: Orbax numbers the saves of a process by one global counter, and a save
that begins in another thread meanwhile would change the number, so that both wait for each other
until Orbax gives up."""


@final
class Checkpoints:
    """The checkpoints of one run: the latest, the best, and spare ones in case of damage; or all.

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
        # if processes train together, only the first one saves, without waiting for the others
        alone = orbax.checkpoint.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
        )
        return orbax.checkpoint.StandardCheckpointer(multiprocessing_options=alone)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
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
            first: called in the background before the checkpoint counts, to make the files durable
                that belong to it.

        Raises:
            RunError: this state, or the one saved before it, cannot be written.
        """
        self.commit()
        name = str(info.step)
        for there in of_step(self._folder, info.step):
            raise RunError(
                f"{self._folder.path / there}: exists already, and is in the way of a checkpoint",
                hint="move it away, and resume",
            )
        if not cluster.is_alone():  # Orbax takes no arrays on the devices of one process only
            state = jax.tree.map(np.asarray, state)
        with self._writing(name), _SAVING:
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
            info = info.model_copy(update={"size": size_of(files), "digest": digest(files)})
            with self._folder.replacing(f"{name}.json") as file:
                fields = seals.sealed(info.model_dump(mode="json"))
                file.write(json.dumps(fields, indent=2).encode() + b"\n")
        if not self._keep_all:
            with contextlib.suppress(RunError):  # checkpoints that could not be deleted do no harm
                keep_only(self._folder, needed(kept(self._folder)))

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
            raise RunError(
                f"{path}: the checkpoint does not load: {first_line(error)}", hint=ANOTHER
            ) from error
        return state

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Turn an error of a save into a RunError, and remove the incomplete checkpoint."""
        try:
            yield
        except Exception as error:  # Orbax and its backends may raise anything
            # on a full disk, this makes room for the record of the failure
            with contextlib.suppress(OSError, RunError):
                for half in of_step(self._folder, int(name)):
                    if is_ours(self._folder, half):
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
    problem = ""
    try:
        path = str(directory.absolute())
        path.encode()
    except OSError:
        raise RunError(
            f"{directory}: the current directory was deleted, and this path is relative to it",
            hint="cd to another directory",
        ) from None
    except UnicodeEncodeError:
        problem = "its path is not UTF-8 text, which Orbax needs"
    if "gs:/" in f"{path}/":
        problem = "gs:/ in its path, which Orbax takes for a place in Google Cloud Storage"
    elif "\\" in path:
        problem = "a backslash in its path, which Orbax takes for a slash"
    elif to_save and glob.escape(path) != path:
        problem = "one of * ? [ in its path, which Orbax takes for a pattern"
    if problem:
        hint = "rename the directory, or choose another --runs-dir"
        raise RunError(f"{path}: {problem}", hint=hint)


def layout(state: TrainState) -> str:
    """Return the SHA-256 of the path, type and shape of each array of a state."""
    result = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        result.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}\n".encode())
    return result.hexdigest()
