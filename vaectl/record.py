"""What a run directory records: one row per epoch and split, and one account of the run."""

from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

FORMAT_VERSION = 1


class Row(NamedTuple):
    """One line of metrics.csv: means over a split, in nats per image."""

    epoch: int
    step: int
    split: Literal["train", "validation"]
    elbo: float
    kl: float
    nll: float
    seconds: float


class Best(BaseModel):
    """The best epoch by validation ELBO."""

    model_config = ConfigDict(frozen=True, strict=True)

    epoch: int
    validation_elbo: float


class Record(BaseModel):
    """run.json: what happened, on what, from what."""

    model_config = ConfigDict(frozen=True, strict=True)

    format_version: int = FORMAT_VERSION
    name: str
    status: Literal["running", "finished", "interrupted", "failed"]
    error: str | None = None
    seed: int
    epoch: int = 0
    """The last one that ended."""
    epochs: int
    """As many as were asked for."""
    best: Best | None = None
    start: str
    end: str | None = None
    command: list[str]
    git_commit: str | None
    """Of the working directory, with `-dirty` where files differ from it."""
    versions: dict[str, str]
    device: dict[str, Any]
    data: dict[str, Any]
    metrics: dict[str, str]
    """What the numbers of metrics.csv are: unit, estimator, binarization."""


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
