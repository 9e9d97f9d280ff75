"""The protocol of sinks. Sinks follow trainings, and can neither stop, slow down nor fail them.

A sink is a plug, but not part of the configuration: the same experiment can run with or without it.
It works in a thread of its own (see `vaectl.follow`), on NumPy arrays and plain numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from vaectl.base.plugs import Plug
from vaectl.config import options
from vaectl.config.schema import Config
from vaectl.runs.metrics import Row
from vaectl.training.status import Status as Status


class Training(NamedTuple):
    """A training to follow: of a run, or of one member of a comparison."""

    name: str
    directory: Path
    """The run directory. A sink may write there, under names of its own."""
    settings: Config
    step: int
    """The step after which the training goes on. Results of later steps that a sink holds are
    invalid."""
    time: float
    """The time at which it begins or goes on, in seconds since 1970."""
    over: frozenset[int] = frozenset()
    """The steps of all epochs, if the log of a finished run is written again; else empty.

    Pictures that a sink holds of these steps should stay: few of them can be made again.
    """


class Pictures(NamedTuple):
    """A model's pictures of fixed codes and images, as numbers in [0, 1] if the likelihood is."""

    samples: Float[np.ndarray, "count h w c"]
    """Codes from the prior, decoded."""
    images: Float[np.ndarray, "images h w c"]
    """Images of the validation split; none where the data set is gone."""
    reconstructions: Float[np.ndarray, "images h w c"]
    plane: Float[np.ndarray, "rows columns h w c"] | None = None
    """A plane of the latent space, decoded; None unless that has two dimensions."""


class Results(NamedTuple):
    """The results of one epoch."""

    epoch: int
    step: int
    time: float
    """The time at which it ended, in seconds since 1970."""
    rows: Sequence[Row]
    """Terms and seconds, one row for each split, as in metrics.csv.

    There are none if these are the pictures of the last epoch, which was written before: see
    `Sink.pictures_every`.
    """
    pictures: Pictures | None = None


class Log(Protocol):
    """The open log of one training in a sink."""

    def write(self, results: Results) -> None:
        """Take the results of an epoch; they should survive a crash from here on."""

    def close(self, status: Status) -> None:
        """Release what it holds; the training is over."""


class Sink(Plug, kind="sink"):
    """The settings of a sink, and the opening of logs. Any exception that it raises disables it."""

    misses_pictures: ClassVar[bool] = True
    """True to warn how many pictures were due, but not drawn in time."""

    def check(self) -> None:
        """Check that the sink can be used, before anything is computed.

        Raises:
            ConfigError: something that it needs is not installed.
        """
        self.check_installed()

    @property
    def pictures_every(self) -> int | None:
        """The interval of `Results.pictures` in epochs; the last epoch has them; None: never.

        An epoch that ends before older pictures are drawn has none. The last epoch of a training
        that stops early is written twice: the second time with its pictures, and without rows.
        """
        return None

    def draws(self, epoch: int, epochs: int) -> bool:
        """Tell whether an epoch, out of so many, has `Results.pictures`."""
        every = self.pictures_every
        return every is not None and (epoch == epochs or epoch % every == 0)

    @abstractmethod
    def open(self, training: Training) -> Log:
        """Begin a log, or go on with it after `training.step`."""


def parse(text: str, option: str = "--log") -> Sink:
    """Read a sink as an option has it: see `vaectl.config.options`."""
    sink: Sink = options.parse(Sink, text, option)
    return sink
