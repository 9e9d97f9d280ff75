"""What happens while something trains, for whoever watches."""

from collections.abc import Callable
from typing import NamedTuple

from vaectl.training.fit import Chunk, Epoch


class Note(NamedTuple):
    """Something worth a line of its own."""

    text: str


class Warned(NamedTuple):
    """Something that a person must know, `--quiet` or not."""

    text: str


class Phase(NamedTuple):
    """Something other than training begins."""

    text: str


class Training(NamedTuple):
    """Training begins: of a run, or of the next members of a comparison."""

    epochs: int
    """Of all that is to come; a comparison counts those of every member."""
    images: int
    steps_per_epoch: int
    step: int = 0
    """After which it begins."""
    what: str = ""
    """What trains now, of several."""


Event = Note | Warned | Phase | Training | Chunk | Epoch
Watch = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch without a word."""
