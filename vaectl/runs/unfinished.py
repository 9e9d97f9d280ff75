"""Finished parts of a diagnosis under way, after which an interrupted diagnosis continues.

unfinished/KEY-PART.json    the numbers of a part, sealed

The key is a hash of everything that the numbers depend on. So parts of another checkpoint, of other
options or of another version of JAX are never mixed with these.
"""

from __future__ import annotations

import json
import re
from collections import UserDict
from collections.abc import Mapping
from functools import cache
from typing import Any, final

import numpy as np
from jaxtyping import Float

from vaectl.base import seals
from vaectl.base.locks import Lock
from vaectl.base.terminal import Tell
from vaectl.runs import belongings
from vaectl.runs.directory import RunDir
from vaectl.runs.names import EVALUATION_LOCK
from vaectl.runs.record import Part

FOLDER = "unfinished"
FORMAT_VERSION = 1
MOST_BYTES = 2**20
"""Largest file that is read; that of 50 images has a hundredth of this."""

Values = Float[np.ndarray, "_numbers _images"]


class _Stored(Part):
    """The contents of a file."""

    format_version: int = FORMAT_VERSION
    key: str
    part: str
    values: list[list[float]]


@final
class Unfinished(UserDict[str, Values]):
    """The parts that are finished, by name; each is durable as soon as it is set.

    A part that cannot be written is not kept, and a changed file is ignored: both cost time, but do
    not change results.
    """

    def __init__(self, run: RunDir, inputs: Mapping[str, Any], tell: Tell) -> None:
        """Read the parts that an earlier process has finished.

        Args:
            run: the run that is diagnosed.
            inputs: everything that the numbers depend on, as JSON.
            tell: told of files that cannot be read or written.
        """
        super().__init__()
        self._run, self._folder = run.folder, run.folder.folder(FOLDER)
        self._lock = Lock(run.folder, EVALUATION_LOCK)
        self._key = seals.seal({"format_version": FORMAT_VERSION, **inputs})[:16]
        self._tell = cache(tell)  # each warning once
        try:
            names = self._folder.names() if run.folder.kind(FOLDER) else []
        except OSError as error:
            names = []
            self._tell(f"warning: {self._folder.path}: cannot be read: {error.strerror}")
        for name in names:
            if found := re.fullmatch(rf"{self._key}-(.+)\.json", name):
                self._read(name, found[1])

    def _read(self, name: str, part: str) -> None:
        try:
            content = self._folder.read(name, MOST_BYTES)
            seals.check(content)
            fields = json.loads(content)
            del fields["seal"]
            stored = _Stored.model_validate(fields)
            if (stored.key, stored.part) != (self._key, part):
                raise ValueError(name)
            self.data[part] = np.array(stored.values, np.float32)  # rows of one length, or an error
        except (OSError, ValueError):
            self._tell(f"warning: {self._folder.path / name}: damaged or changed, and not used")

    def __setitem__(self, part: str, values: Values) -> None:
        stored = _Stored(key=self._key, part=part, values=values.tolist())
        try:
            with self._lock:
                self._folder.make()
                belongings.remove_halves(self._folder, belongings.UNFINISHED)
                with self._folder.replacing(self._name(part)) as file:
                    file.write(json.dumps(seals.sealed(stored.model_dump())).encode())
        except OSError as error:
            self._tell(f"warning: {self._folder.path}: cannot be written: {error.strerror}")
        else:
            super().__setitem__(part, values)

    def remove(self) -> None:
        """Remove the files of these parts, and the folder if it is empty then."""
        try:
            with self._lock:
                for name in map(self._name, self):
                    if self._folder.kind(name):  # not removed by another process
                        self._folder.remove(name)
                if self._run.kind(FOLDER) and not self._folder.names():
                    self._run.remove(FOLDER)
        except OSError as error:
            self._tell(f"warning: {error.filename}: cannot be removed: {error.strerror}")

    def _name(self, part: str) -> str:
        return f"{self._key}-{part}.json"
