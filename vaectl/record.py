"""What a run directory records: one row per epoch and split, and one account of the run."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict

from vaectl.errors import DataError

FORMAT_VERSION = 1
ACTIVE = 0.01
"""Burda et al. 2016, section 5.2: a unit is active if Cov_x(E_q[z]) is above this."""


def _with_zone(time: str) -> str:
    if datetime.fromisoformat(time).tzinfo is None:
        raise ValueError("a time without its zone")
    return time


Time = Annotated[str, AfterValidator(_with_zone)]
"""In ISO 8601, with its zone: without one it names no moment."""


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


class Resumption(BaseModel):
    """One time that a run was resumed: from where, and by what."""

    model_config = ConfigDict(frozen=True, strict=True)

    time: Time
    epoch: int
    """The last one that had ended."""
    step: int
    command: list[str]
    git_commit: str | None
    versions: dict[str, str]
    device: dict[str, Any]
    warnings: list[str]
    """Why its numbers may differ in the last bits, and what of the run was damaged."""


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
    start: Time
    end: Time | None = None
    command: list[str]
    git_commit: str | None
    """Of the working directory, with `-dirty` where files differ from it."""
    versions: dict[str, str]
    device: dict[str, Any]
    data: dict[str, Any]
    settings: dict[str, Any] = {}
    """What config.yaml said in the beginning, by dotted path: a resume compares them."""
    metrics: dict[str, str]
    """What the numbers of metrics.csv are: unit, estimator, binarization."""
    resumed: list[Resumption] = []

    def check_data(self, source: str, fingerprint: str) -> None:
        """Refuse data other than those of the run.

        Raises:
            DataError: the fingerprint is another one.
        """
        expected = str(self.data.get("fingerprint"))
        if fingerprint != expected:
            raise DataError(
                f"{source} is not the data set that {self.name} was trained on: its fingerprint "
                f"is {fingerprint[:12]}..., not {expected[:12]}...",
                hint="put the old files back, or train again on the new ones",
            )


class Estimate(BaseModel):
    """A mean over images, in nats per image, and its standard error."""

    model_config = ConfigDict(frozen=True, strict=True)

    mean: float
    standard_error: float


class Evaluation(BaseModel):
    """What `vaectl evaluate` found; every number with its split, binarization and estimator."""

    model_config = ConfigDict(frozen=True, strict=True)

    format_version: int = FORMAT_VERSION
    run: str
    epoch: int
    """The last one that had ended."""
    step: int | None = None
    where: str = ""
    """In the training, for a person; a checkpoint may be inside an epoch."""
    split: Literal["train", "validation", "test"]
    images: int
    binarization: str
    seed: int
    samples: int
    """L of the ELBO."""
    elbo: Estimate
    kl: Estimate
    nll: Estimate
    importance_samples: int
    """K of the importance-weighted bound; 0: it was not computed."""
    log_likelihood: Estimate | None
    """IW-K, a lower bound on log p(x) in expectation."""
    code_size: int
    active_units: int
    """Dimensions whose posterior mean has a variance over images above 0.01."""
    activity: list[float]
    """That variance, by dimension."""
    kl_by_dimension: list[float]
    seconds: float


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
