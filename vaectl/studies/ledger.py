"""The trials that have ended: written at once, and never computed again.

trials/KEY.json        a trial, sealed: its curve, and the small files of its run
trials/KEY.test.json   its evaluation on the test split, sealed
trials.csv, curves.csv what the trials say, for people; see `vaectl.studies.views`

All that a comparison publishes follows from the sealed files. Each is written whole and renamed
into place: a process that is killed at any moment leaves all trials but the one it was at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import TypeVar, final

from pydantic import BaseModel

from vaectl.base import seals
from vaectl.base.errors import RunError
from vaectl.base.files import Folder, Kind
from vaectl.base.formats import refuse_newer
from vaectl.data import Dataset
from vaectl.members.places import MOST_BYTES, unwritable
from vaectl.runs.saved import DAMAGED
from vaectl.studies import views
from vaectl.studies.ended import FORMAT_VERSION, Ended, Tested

FOLDER = "trials"

_FILE = re.compile(r"[0-9a-f]{16}\.json")
_Kind = TypeVar("_Kind", bound=BaseModel)


@final
class Ledger:
    """The trials of one comparison, by their keys, in the order in which they ended."""

    def __init__(
        self, directory: Folder, tell: Callable[[str], None], left_out: Set[str] = frozenset()
    ) -> None:
        """Read the sealed trials, and make the views again where they say something else.

        Args:
            directory: of the comparison.
            tell: called with a message about each file that is wrong, and what is done about it.
            left_out: trials that trials.csv has, and that were never sealed.

        Raises:
            RunError: a file cannot be read or written, or is from a newer vaectl.
        """
        self._directory, self._tell = directory, tell
        try:
            names = sorted(filter(is_sealed, directory.folder(FOLDER).names()))
        except OSError as error:
            raise RunError.of(error) from None
        found = [trial for name in names if (trial := self._open(name.removesuffix(".json")))]
        self.ended = {trial.key: trial for trial in sorted(found, key=lambda trial: trial.number)}
        self.next_number = max((trial.number for trial in found), default=0) + 1
        """The place of the next trial in their order."""
        self._discarded: set[str] = set()
        """The keys of removed trials."""
        self._all_read = len(found) == len(names)
        self._columns = {name: views.columns(name, self.ended.values()) for name in views.NAMES}
        """The columns of each view."""
        self._listed = {name: self._renew(name) for name in views.NAMES}["trials.csv"] - left_out

    def check_data(self, source: str, dataset: Dataset) -> None:
        """Refuse data that differ from those of the trials of the result.

        Raises:
            DataError: the data differ.
        """
        for trial in self.ended.values():
            if record := trial.record:
                record.check_data(source, dataset.fingerprint, dataset.image_shape)

    def add(self, trial: Ended) -> None:
        """Seal a trial that ended, and show it in the views.

        Raises:
            RunError: it cannot be written.
        """
        write_sealed(self._directory.folder(FOLDER), f"{trial.key}.json", trial)
        again = self.ended.pop(trial.key, None)
        first = not self.ended
        self.ended[trial.key] = trial
        self.next_number = max(self.next_number, trial.number + 1)
        wanted = {name: views.columns(name, [trial]) for name in views.NAMES}
        if again or first or any({*wanted[name]} - {*self._columns[name]} for name in wanted):
            self._show()  # in the place of its older rows, or with more columns
            return
        for name, columns in self._columns.items():
            self._append(name, views.text(name, [trial], columns, header=False))

    def forget(self, trials: Sequence[Ended]) -> None:
        """Remove trials that are to be trained again.

        Raises:
            RunError: the views cannot be written.
        """
        for trial in trials:
            del self.ended[trial.key]
            self._listed.discard(trial.key)
        if trials:
            self._show()

    def discard(self, key: str, why: str) -> None:
        """Remove a trial whose sealed file turns out to be wrong, so that it is trained again.

        Raises:
            RunError: the views cannot be written.
        """
        del self.ended[key]
        self._discarded.add(key)
        self._show()
        self._tell(f"{self.file(key)}: {why}: its trial is trained again")

    def sync(self) -> None:
        """Make the views durable; each sealed file is durable as soon as it is written.

        Raises:
            RunError: the disk refuses.
        """
        try:
            for name in views.NAMES:
                self._directory.sync(name)
        except OSError as error:
            raise unwritable(error) from None

    def was_sealed(self, key: str) -> bool:
        """Tell whether a trial was sealed once, by what trials.csv said when it was read."""
        return key in self._listed

    def is_gone(self, key: str) -> bool:
        """Tell whether a trial was sealed once and is gone, without a message about it so far."""
        return self.was_sealed(key) and key not in self.ended and key not in self._discarded

    def tested(self, trial: Ended) -> Tested | None:
        """The evaluation of a trial's checkpoint on the test split; None if none is sealed.

        Raises:
            RunError: it cannot be read, or is from a newer vaectl.
        """
        name = f"{trial.key}.test.json"
        if trial.checkpoint is None or self._kind(name) is None:
            return None
        try:
            found = self._opened(name, Tested)
            if found.key != trial.key:
                raise ValueError(found.key)
        except ValueError:
            file = self._directory.path / FOLDER / name
            self._tell(f"{file}: damaged or changed: the run is evaluated again")
            return None
        # an evaluation of an earlier training
        return found if found.checkpoint == trial.checkpoint.digest else None

    def add_test(self, found: Tested) -> None:
        """Seal an evaluation on the test split.

        Raises:
            RunError: it cannot be written.
        """
        write_sealed(self._directory.folder(FOLDER), f"{found.key}.test.json", found)

    def file(self, key: str) -> Path:
        """The sealed file of a trial."""
        return self._directory.path / FOLDER / f"{key}.json"

    def _open(self, key: str) -> Ended | None:
        try:
            trial = self._opened(f"{key}.json", Ended)
            if trial.key != key:
                raise ValueError(trial.key)
        except ValueError:
            self._tell(f"{self.file(key)}: damaged or changed, and not used")
            return None
        return trial

    def _text(self, name: str, columns: Sequence[str] = ()) -> str:
        trials = self.ended.values()
        return views.text(name, trials, columns or views.columns(name, trials))

    def _show(self) -> None:
        for name in views.NAMES:
            self._columns[name] = views.columns(name, self.ended.values())
            write(self._directory, name, self._text(name))

    def _append(self, name: str, text: str) -> None:
        """Add to a view; if that ends half way, the next command makes it again."""
        try:
            self._directory.append(name, text.encode())
        except OSError as error:
            raise unwritable(error) from None

    def _kind(self, name: str) -> Kind | None:
        try:
            return self._directory.kind(f"{FOLDER}/{name}")
        except OSError as error:
            raise RunError.of(error) from None

    def _opened(self, name: str, kind: type[_Kind]) -> _Kind:
        """Read a sealed file.

        Raises:
            ValueError: it is not what was sealed, or cannot be what a vaectl sealed.
            RunError: it cannot be read, or is from a newer vaectl.
        """
        try:
            content = self._directory.read(f"{FOLDER}/{name}", MOST_BYTES)
        except OSError as error:
            if error.errno in DAMAGED:
                raise ValueError(error.strerror) from None
            raise RunError.of(error) from None
        seals.check(content)
        refuse_newer(self._directory.path / FOLDER / name, content, FORMAT_VERSION)
        return kind.model_validate_json(content)

    def _renew(self, name: str) -> set[str]:
        """Make a view again if it is not what the trials say; return the keys that it listed."""
        path, wanted = self._directory.path / name, self._text(name)
        try:
            known = self._directory.read(name, MOST_BYTES) if self._directory.kind(name) else b""
        except OSError as error:
            if error.errno not in DAMAGED:
                raise RunError.of(error, path) from None
            known = b"\n"
        if known != wanted.encode():
            before = [self._text(name, columns) for columns in views.older(name)]
            # as a kill leaves it, or an older vaectl
            behind = known.endswith(b"\n") and any(
                text.encode().startswith(known) for text in (wanted, *before)
            )
            # without a trial that could not be read, they differ for that alone
            if (known or self.ended) and not behind and self._all_read:
                what = "not what the sealed trials say" if known else "gone"
                self._tell(f"{path}: {what}: made again from {self._directory.path / FOLDER}")
            write(self._directory, name, wanted)
        return {line.split(b",")[0].decode("ascii", "replace") for line in known.splitlines()}


def is_sealed(name: str) -> bool:
    """Tell whether a name in trials/ is that of a sealed trial."""
    return _FILE.fullmatch(name) is not None


def write_sealed(folder: Folder, name: str, what: BaseModel) -> None:
    """Write what a file of the ledger holds, with its seal.

    Raises:
        RunError: it cannot be written.
    """
    write(folder, name, json.dumps(seals.sealed(what.model_dump(mode="json"))) + "\n")


def write(folder: Folder, name: str, text: str) -> None:
    """Write a file of a comparison, durably, or leave what was there.

    Raises:
        RunError: it cannot be written.
    """
    try:
        with folder.replacing(name) as file:
            file.write(text.encode())
    except OSError as error:
        raise unwritable(error) from None
