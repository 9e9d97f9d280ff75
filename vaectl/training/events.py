"""The events of a training, for its watchers.

One member trains, or several of a comparison, in turn or at once. Every event of a training names
its member, with that member's own epoch and step; whoever shows all of them adds up.

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
    """Something worth a line of its own."""

    text: str


class Warned(NamedTuple):
    """Something that a person must know, `--quiet` or not."""

    text: str


class Phase(NamedTuple):
    """Something other than training begins."""

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
    """The last step that it has taken before."""

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
    """A member trains no more; one that was trained before need not have started."""

    member: str
    status: Status
    error: str = ""
    epochs: int | None = None
    """All epochs of its training; None if that is known since it started."""


Event = Note | Warned | Phase | Planned | Started | Chunk | Epoch | Stopped
Watch = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch without a word."""
