"""The events of a training, for its watchers.

One member trains, or several members of a comparison, in turn or at once. Every event of a training
names its member, with that member's own epoch and step; a watcher adds them up.

    Planned                    how many members there are to train
    Started                    one begins
    Chunk, Chunk, ..., Epoch   what it does
    Stopped                    it trains no more; its run directory is complete, and may move
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vaectl.config.schema import Config
from vaectl.data import Dataset
from vaectl.training.fit import Chunk, Epoch
from vaectl.training.program import Program
from vaectl.training.status import Status


class Note(NamedTuple):
    """A message to show on a line of its own."""

    text: str


class Warned(NamedTuple):
    """A warning, which is shown even with `--quiet`."""

    text: str


class Phase(NamedTuple):
    """The beginning of work other than training."""

    text: str


class Planned(NamedTuple):
    """The number of members, and of epochs; a later event replaces an earlier one."""

    members: int
    epochs: int
    """Those of all members together."""


class Started(NamedTuple):
    """A member begins to train, or goes on."""

    member: str
    settings: Config
    dataset: Dataset
    directory: Path | None
    """Its run directory, locked by this process; None if it leaves no run."""
    step: int = 0
    """The last step before this training; 0 for a new one."""

    @property
    def program(self) -> Program:
        """The program that it compiles to."""
        return Program.of(
            self.settings,
            images=len(self.dataset.train.images),
            image_shape=self.dataset.image_shape,
            classes=self.dataset.classes,
        )


class Stopped(NamedTuple):
    """The end of a member; one from an earlier command has no `Started` before it."""

    member: str
    status: Status
    error: str = ""
    epochs: int | None = None
    """All epochs of its training; None if `Started` has told them."""


Event = Note | Warned | Phase | Planned | Started | Chunk | Epoch | Stopped
Watch = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Ignore an event."""
