"""The trials that ended, on disk as soon as they did: what is there is never computed again.

trials/KEY.json        a trial, sealed: its curve, and the small files of its run
trials/KEY.test.json   its evaluation on the test split, sealed
trials.csv, curves.csv what the trials say, for people; see `vaectl.comparison.views`

All that a comparison publishes follows from the sealed files. Each is written whole and renamed
into place: a process that is killed at any moment leaves all trials but the one it was at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Set
from pathlib import Path
from typing import TypeVar, final

from pydantic import BaseModel

from vaectl import seals
from vaectl.checkpoints import DAMAGED
from vaectl.comparison import views
from vaectl.comparison.ended import FORMAT_VERSION, Ended, Tested
from vaectl.errors import RunError
from vaectl.files import read, replacing
from vaectl.formats import refuse_newer

FOLDER = "trials"
MOST_BYTES = 2**30
"""Of a sealed file: of a million epochs, the most that a configuration takes."""

_FILE = re.compile(r"[0-9a-f]{16}\.json")
_Kind = TypeVar("_Kind", bound=BaseModel)


@final
class Ledger:
    """The trials of one comparison, by their keys, in the order in which they ended."""

    def __init__(
        self, directory: Path, tell: Callable[[str], None], left_out: Set[str] = frozenset()
    ) -> None:
        """Read the sealed trials, and make the views again where they say something else.

        Args:
            directory: of the comparison.
            tell: told of each file that is not what it should be, and what becomes of it.
            left_out: trials that trials.csv has, and that were never sealed.

        Raises:
            RunError: a file cannot be read or written, or is from a newer vaectl.
        """
        self._directory, self._tell = directory, tell
        folder = directory / FOLDER
        try:
            files = sorted(filter(is_sealed, folder.iterdir()))
        except OSError as error:
            raise RunError(f"{folder}: cannot be read: {error.strerror}") from None
        found = [trial for file in files if (trial := self._open(file))]
        self.ended = {trial.key: trial for trial in sorted(found, key=lambda trial: trial.number)}
        self._listed = {name: self._renew(name) for name in views.NAMES}["trials.csv"] - left_out

    def check_data(self, source: str, fingerprint: str) -> None:
        """Refuse data other than those that the trials of the result were trained on.

        Raises:
            DataError: they are others.
        """
        for trial in self.ended.values():
            if trial.record:
                trial.record.check_data(source, fingerprint)

    def add(self, trial: Ended) -> None:
        """Seal a trial that ended, and show it in the views.

        Raises:
            RunError: it cannot be written.
        """
        write_sealed(self.file(trial.key), trial)
        again = self.ended.pop(trial.key, None)
        self.ended[trial.key] = trial
        if again:
            self._show()  # in the place of its older rows
            return
        for name in views.NAMES:
            _append(self._directory / name, views.text(name, [trial], header=False))

    def discard(self, key: str, why: str) -> None:
        """Take back a trial that turns out not to be what it should be; it is trained again.

        Raises:
            RunError: the views cannot be written.
        """
        del self.ended[key]
        self._show()
        self._tell(f"{self.file(key)}: {why}: its trial is trained again")

    def was_sealed(self, key: str) -> bool:
        """Whether a trial was sealed once, by what trials.csv said when it was read."""
        return key in self._listed

    @property
    def next_number(self) -> int:
        """The place of the next trial in their order."""
        return max((trial.number for trial in self.ended.values()), default=0) + 1

    def tested(self, trial: Ended) -> Tested | None:
        """The evaluation of a trial's checkpoint on the test split; None if none is sealed.

        Raises:
            RunError: it cannot be read, or is from a newer vaectl.
        """
        file = self.test_file(trial.key)
        if not file.exists() or trial.checkpoint is None:
            return None
        try:
            found = _opened(file, Tested)
            if found.key != trial.key:
                raise ValueError(found.key)
        except ValueError:
            self._tell(f"{file}: damaged or changed: the run is evaluated again")
            return None
        # of what was trained in its place before
        return found if found.checkpoint == trial.checkpoint.digest else None

    def add_test(self, found: Tested) -> None:
        """Seal an evaluation on the test split.

        Raises:
            RunError: it cannot be written.
        """
        write_sealed(self.test_file(found.key), found)

    def file(self, key: str) -> Path:
        """The sealed file of a trial."""
        return self._directory / FOLDER / f"{key}.json"

    def test_file(self, key: str) -> Path:
        """The sealed file of its evaluation on the test split."""
        return self._directory / FOLDER / f"{key}.test.json"

    def _open(self, file: Path) -> Ended | None:
        try:
            trial = _opened(file, Ended)
            if file.stem != trial.key:
                raise ValueError(trial.key)
        except ValueError:
            self._tell(f"{file}: damaged or changed: its trial is trained again if it is asked for")
            return None
        return trial

    def _show(self) -> None:
        for name in views.NAMES:
            write(self._directory / name, views.text(name, self.ended.values()))

    def _renew(self, name: str) -> set[str]:
        """Make a view again if it is not what the trials say; return the keys that it listed."""
        path, wanted = self._directory / name, views.text(name, self.ended.values()).encode()
        try:
            known = read(path, MOST_BYTES) if path.exists() else b""
        except OSError as error:
            if error.errno not in DAMAGED:
                raise RunError(f"{path}: cannot be read: {error.strerror}") from None
            known = b"\n"
        if known != wanted:
            behind = known.endswith(b"\n") and wanted.startswith(known)  # as a kill leaves it
            if (known or self.ended) and not behind:
                what = "not what the sealed trials say" if known else "gone"
                self._tell(f"{path}: {what}: made again from {self._directory / FOLDER}")
            write(path, wanted.decode())
        return {line.split(b",")[0].decode("ascii", "replace") for line in known.splitlines()}


def is_sealed(path: Path) -> bool:
    """Whether a path in trials/ has the name of a sealed trial."""
    return _FILE.fullmatch(path.name) is not None


def write_sealed(file: Path, what: BaseModel) -> None:
    """Write what a file of the ledger holds, with its seal.

    Raises:
        RunError: it cannot be written.
    """
    write(file, json.dumps(seals.sealed(what.model_dump(mode="json"))) + "\n")


def write(path: Path, text: str) -> None:
    """Write a file of a comparison whole, or leave what was there.

    Raises:
        RunError: it cannot be written.
    """
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> RunError:
    """Say that something in a comparison's directory cannot be written."""
    return RunError(
        f"{path}: cannot be written: {error.strerror}",
        hint="what was written before is intact; the same command continues after it",
    )


def _append(path: Path, text: str) -> None:
    """Add to a view; if that ends half way, the next command makes it again."""
    try:
        with path.open("ab") as file:
            file.write(text.encode())
    except OSError as error:
        raise unwritable(path, error) from None


def _opened(file: Path, kind: type[_Kind]) -> _Kind:
    """Read a sealed file.

    Raises:
        ValueError: it is not what was sealed, or cannot be what a vaectl sealed.
        RunError: it cannot be read, or is from a newer vaectl.
    """
    try:
        content = read(file, MOST_BYTES)
    except OSError as error:
        if error.errno in DAMAGED:
            raise ValueError(error.strerror) from None
        raise RunError(f"{file}: cannot be read: {error.strerror}") from None
    seals.check(content)
    refuse_newer(file, content, FORMAT_VERSION)
    return kind.model_validate_json(content)
