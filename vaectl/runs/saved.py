"""The checkpoints that a run keeps: their descriptions, and which of them are intact."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from vaectl.base import seals
from vaectl.base.errors import RunError
from vaectl.base.files import LINK, Folder
from vaectl.base.formats import refuse_newer
from vaectl.runs import belongings
from vaectl.runs.record import ImageShape, Natural

FORMAT_VERSION = 2
MOST_BYTES = 2**20
"""Largest description of a checkpoint that is read; inside an epoch it has the sum of each term."""

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
    began: float | None = None
    """The bound of the first of those steps; None in the checkpoints of an older vaectl."""
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
            content = folder.read(name, MOST_BYTES)
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
    bad = {_step(name) for name in parts if is_ours(folder, name)} - good - newer
    warnings = [
        f"{folder.path / str(step)}: the checkpoint is damaged or incomplete, and not used"
        for step in sorted(bad)
    ]
    warnings += [
        f"{folder.path / str(step)}: the checkpoint is of a newer vaectl, and not touched"
        for step in sorted(newer)
    ]
    warnings += [
        f"{folder.path / other}: not a checkpoint made by vaectl, and not touched"
        for name in parts
        for other in _foreign(folder, name)
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
        ours = [name for name in of_others if is_ours(folder, name)]
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
                    refuse_newer(folder.path / name, folder.read(name, MOST_BYTES), FORMAT_VERSION)
                except RunError:
                    found.add(_step(name))
    return found


def refuse_blocked(folder: Folder, after: int, until: int) -> None:
    """Refuse to train if something that vaectl will not delete is in the way of a checkpoint.

    Args:
        folder: the folder of checkpoints.
        after: the step from which training continues.
        until: its last step.

    Raises:
        RunError: there is a file that vaectl did not make, or a checkpoint of a newer vaectl, named
            after a step between the two.
    """
    newer = _newer(folder)
    for name in _parts(folder):
        if not after < _step(name) <= until:
            continue
        if _step(name) in newer:
            raise RunError(
                f"{folder.path / name}: of a newer vaectl, and in the way of a checkpoint",
                hint="upgrade vaectl; or move the files of that step away, and resume",
            )
        for other in _foreign(folder, name):
            raise RunError(
                f"{folder.path / other}: in the way of a checkpoint, and not made by vaectl",
                hint="move it away, and resume",
            )


def of_step(folder: Folder, step: int) -> list[str]:
    """Return the names of what belongs to the checkpoint of a step, or is in its way."""
    return [name for name in _parts(folder) if _step(name) == step]


def _step(name: str) -> int:
    return int(name.partition(".")[0])


def is_ours(folder: Folder, name: str) -> bool:
    """Tell whether vaectl made an entry of the folder, and all that is in it.

    Raises:
        RunError: the entry cannot be read.
    """
    return not _foreign(folder, name)


def _foreign(folder: Folder, name: str) -> list[str]:
    """Return the paths of what vaectl did not make: an entry, or files in a checkpoint.

    Raises:
        RunError: the entry cannot be read.
    """
    try:
        made = belongings.is_made(folder, name, belongings.CHECKPOINTS)
        return [] if made else belongings.foreign(folder, name)
    except OSError as error:
        _refuse_unreadable(folder.path / name, error)
        return [name]


def needed(infos: list[Info]) -> set[int]:
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
    """Raise if a file may be readable later or by another user; accept an error that means damage.

    Raises:
        RunError: the file may be readable later; deleting it now would lose it.
    """
    if error.errno not in DAMAGED:
        raise RunError.of(
            error,
            error.filename or path,
            hint="fix the disk or the permissions, and try again; if it is lost, delete it",
        ) from None


def is_intact(files: Folder, info: Info) -> bool:
    """Tell whether the files of a checkpoint are those that were saved.

    Raises:
        OSError: a file cannot be read, or an entry is not a file.
    """
    # sizes first: a sparse file may have terabytes
    return (not info.size or size_of(files) == info.size) and digest(files) == info.digest


def size_of(files: Folder) -> int:
    """Return the bytes of the files that Orbax wrote of a checkpoint.

    Raises:
        OSError: a file cannot be read, or one of Orbax's is not a file.
    """
    total = 0
    for path in _of_orbax(files):
        with files.open(path) as file:
            total += os.fstat(file.fileno()).st_size
    return total


def _of_orbax(files: Folder) -> list[str]:
    """Return the paths of the files that count in a checkpoint; others may lie beside them."""
    return [path for path, _ in files.walk() if belongings.is_of_orbax(path)]


def digest(folder: Folder) -> str:
    """Return the SHA-256 of path, size and bytes of each file of Orbax, in order of paths.

    Raises:
        OSError: a file cannot be read, or an entry is not a file.
    """
    result = hashlib.sha256()
    for path in sorted(_of_orbax(folder), key=lambda path: path.split("/")):
        with folder.open(path) as file:
            size = os.fstat(file.fileno()).st_size
            result.update(f"{path} {size}\n".encode())
            hashlib.file_digest(file, lambda: result)  # in blocks: a file may have gigabytes
    return result.hexdigest()
