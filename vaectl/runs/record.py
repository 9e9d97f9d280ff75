"""The contents of run.json and evaluation.json."""

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from vaectl.base.errors import DataError, RunError
from vaectl.training.status import Status

if TYPE_CHECKING:
    import numpy as np

    from vaectl.data.arrays import Dataset

FORMAT_VERSION = 2
MOST_PIXELS = 2**26
"""The largest image that a record may have."""
ACTIVE = 0.01
"""Burda et al. 2016, section 5.2: a unit is active if Cov_x(E_q[z]) is above this."""


def _with_zone(time: str) -> str:
    if datetime.fromisoformat(time).tzinfo is None:
        raise ValueError("a time without its zone")
    return time


Time = Annotated[str, AfterValidator(_with_zone)]
"""ISO 8601 with a time zone."""

Natural = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]


def _of_an_image(shape: list[int] | tuple[int, ...]) -> list[int] | tuple[int, ...]:
    if math.prod(shape) > MOST_PIXELS:
        raise ValueError(f"an image of more than {MOST_PIXELS} pixels")
    return shape


def _with_channels(shape: Any) -> Any:
    """Read a shape of an older vaectl, without channels."""
    return [*shape, 1] if isinstance(shape, list | tuple) and len(shape) == 2 else shape


_Side = Annotated[int, Field(ge=1, le=MOST_PIXELS)]
ImageShape = Annotated[
    tuple[_Side, _Side, _Side],
    AfterValidator(_of_an_image),
    BeforeValidator(_with_channels),
    Field(strict=False),
]
"""Height, width and channels."""


class Part(BaseModel):
    """A part of a run's JSON files, whose types and ranges are checked when it is read."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Best(Part):
    """The best epoch according to a term on the validation split."""

    epoch: Positive
    quantity: str = "elbo"
    """The name of that term."""
    score: float = Field(validation_alias=AliasChoices("score", "validation_elbo"))


class Sizes(TypedDict):
    """The number of images of each split."""

    train: Positive
    validation: Positive
    test: Positive


Words = Annotated[str, Field(max_length=300)]
"""A short text for titles and tables."""


class DataFacts(TypedDict):
    """The data that a run was trained on."""

    source: Annotated[str, Field(max_length=10_000)]
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """See `vaectl.data.arrays.Published.fingerprint`."""
    image_shape: ImageShape
    images: Sizes
    drawings: NotRequired[bool]
    """See `vaectl.data.arrays.Dataset.drawings`; not there in a run of an older vaectl."""
    classes: NotRequired[Annotated[int, Field(ge=0)]]
    """See `vaectl.data.arrays.Dataset.classes`; not there in a run of an older vaectl."""
    class_names: NotRequired[list[Annotated[str, Field(max_length=1000)]]]
    """See `vaectl.data.arrays.Dataset.class_names`; not there in a run of an older vaectl."""


def data_facts(source: str, dataset: "Dataset") -> DataFacts:
    """Return the facts of a data set that was loaded from a source."""
    return {
        "source": source,
        "fingerprint": dataset.fingerprint,
        "image_shape": dataset.image_shape,
        "images": {
            "train": len(dataset.train.images),
            "validation": len(dataset.validation.images),
            "test": len(dataset.test.images),
        },
        "drawings": dataset.drawings,
        "classes": dataset.classes,
        "class_names": [name[:1000] for name in dataset.class_names],
    }


class MetricsFacts(TypedDict):
    """The meaning of the numbers in metrics.csv."""

    unit: Words
    estimator: Words
    binarization: Words
    train: Words
    validation: Words


Device = dict[str, str | int | None]
"""A description of the machine: see `vaectl.base.devices.describe`."""


class PlugFacts(Part):
    """A plug of a run that is not built in."""

    kind: Words
    name: Words
    source: Annotated[str, Field(max_length=10_000)]
    """A file, or a module of an installed package."""
    sha256: str
    """SHA-256 of the file that defines it."""

    def __str__(self) -> str:
        return f"the {self.kind} {self.name}, of {self.source}"


class Resumption(Part):
    """A resumption of a run: where it continued, and in which environment."""

    time: Time
    epoch: Natural
    """The last epoch that had ended."""
    step: Natural
    command: list[str]
    git_commit: str | None
    versions: dict[str, str]
    device: Device
    warnings: list[str]
    """The reasons why numbers may differ in the last bits, and the files that were damaged."""


class Imported(Part):
    """The origin of a run that was imported, and not trained here."""

    file: Annotated[str, Field(max_length=10_000)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the file."""
    name: Words
    """The name of the run that it was exported from, as the file claims; empty if it says none."""
    checkpoint: Words
    """The checkpoint's place in its training, as the file claims."""
    vaectl: Words
    """The version of vaectl that wrote it, as the file claims."""


class Record(Part):
    """run.json: status, environment, data and settings of a run."""

    format_version: int = FORMAT_VERSION
    name: str
    status: Literal["running", "imported"] | Status
    error: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    epoch: Natural = 0
    """The last epoch that ended."""
    epochs: Positive
    """The number of epochs to train."""
    stopped: Words | None = None
    """The reason why it finished before its last epoch; None if it did not."""
    patience_from: Natural = 0
    """The epoch from which early stopping counts, where a run that stopped early was extended."""
    best: Best | None = None
    start: Time
    end: Time | None = None
    command: list[str]
    git_commit: str | None
    """The commit of the working directory, with `-dirty` if files differ from it."""
    versions: dict[str, str]
    device: Device
    data: DataFacts
    settings: dict[str, Any] = {}
    """The settings in config.yaml when the run started, by dotted path; a resume compares them."""
    plugs: list[PlugFacts] = []
    """Plugs that are not built in; vaectl does not load them by itself."""
    metrics: MetricsFacts
    dimensions: Positive | None = None
    """The number of values in an image if nats convert to bits per dimension, else None: see
    `vaectl.config.meaning.dimensions`."""
    resumed: list[Resumption] = []
    imported: Imported | None = None
    """The origin of an imported run; None for a run that trained here."""

    @property
    def meaning(self) -> str:
        """The meaning of the numbers, for titles, and the nats of one bit per dimension."""
        found = self.metrics["binarization"]
        if self.dimensions:
            found += f"; 1 bit per dimension is {self.dimensions * math.log(2):.1f} nats"
        return found

    def untrained(self) -> RunError:
        """Return the error for a run that was imported, where its training is needed."""
        return RunError(
            f"{self.name} was imported: it has no training here, and no metrics",
            hint="vaectl sample, manifold, evaluate and export take it; vaectl train with its "
            "config.yaml trains the same network from the beginning",
        )

    def check_data(self, source: str, fingerprint: str, shape: tuple[int, int, int]) -> None:
        """Refuse data that are not those of the run.

        Raises:
            DataError: the fingerprint differs from the run's.
            RunError: the shape differs from the run's.
        """
        expected = self.data["fingerprint"]
        if fingerprint != expected:
            raise DataError(
                f"{source} is not the data set that {self.name} was trained on: its fingerprint "
                f"is {fingerprint[:12]}..., not {expected[:12]}...",
                hint="restore the old files, or train again on the new ones",
            )
        if shape != self.data["image_shape"]:
            raise RunError(
                f"run.json of {self.name}: its image shape is {self.data['image_shape']}, but the "
                f"data have {shape}",
                hint="if run.json was changed after training, restore it",
            )


class Estimate(Part):
    """A mean over images, in nats per image, and its standard error."""

    mean: float
    standard_error: Annotated[float, Field(ge=0)]

    @classmethod
    def of(cls, values: "np.ndarray") -> Self:
        """Return the mean of one value for each of two images or more, and its standard error."""
        wide = values.astype("float64")
        error = wide.std(ddof=1) / math.sqrt(len(wide))
        return cls(mean=float(wide.mean()), standard_error=float(error))

    @property
    def clear(self) -> bool:
        """True if the mean is above zero by two standard errors."""
        return self.mean > 2 * self.standard_error


class Bits(Part):
    """Means in bits per dimension, -log p / (dimensions log 2); fewer are better."""

    dimensions: Positive
    """The number of values in an image."""
    elbo: Estimate
    kl: Estimate
    nll: Estimate
    log_likelihood: Estimate | None


class Evaluation(Part):
    """The result of `vaectl evaluate`, with its split, binarization and estimators."""

    format_version: int = FORMAT_VERSION
    run: Words
    epoch: Natural
    """The last epoch that had ended."""
    step: Natural | None = None
    where: Words = ""
    """The checkpoint's place in the training, in words; it may be inside an epoch."""
    split: Literal["train", "validation", "test"]
    images: Positive
    binarization: Words
    seed: Natural
    samples: Positive
    """L, the samples of z of the ELBO."""
    elbo: Estimate
    kl: Estimate
    nll: Estimate
    importance_samples: Natural
    """K, the samples of z of the importance-weighted bound; 0 if it was not computed."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The precision of the products of the bound."""
    log_likelihood: Estimate | None
    """IW-K, a lower bound on log p(x) in expectation."""
    bits_per_dimension: Bits | None = None
    """The same numbers where they are probabilities of bytes; None for other likelihoods."""
    code_size: Positive
    active_units: Natural
    """The number of dimensions whose posterior mean has a variance over images above 0.01."""
    activity: list[float]
    """This variance, by dimension."""
    kl_by_dimension: list[float]
    prior_samples: Natural = 0
    """The number of samples from the prior that were compared with the data; 0 if none were."""
    broken_samples: Natural | None = None
    """The number of them that look broken: see `vaectl.evaluation.samples`."""
    broken_images: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of held-out images that look broken by the same limits."""
    seconds: Annotated[float, Field(ge=0)]

    @property
    def bound(self) -> str:
        """The name of the bound on log p(x), with its K and how its products were rounded."""
        rounded = ", products in bfloat16" if self.precision == "bfloat16" else ""
        return f"log p(x), lower bound IW-{self.importance_samples}{rounded}"

    @model_validator(mode="after")
    def _of_one_code(self) -> Self:
        dimensions = {len(self.activity), len(self.kl_by_dimension)}
        if dimensions != {self.code_size} or self.active_units > self.code_size:
            raise ValueError("dimensions other than those of the code")
        if (self.broken_samples or 0) > self.prior_samples:
            raise ValueError("more broken samples than there were samples")
        return self


def now() -> str:
    """Return the time in UTC, to the millisecond, which tells two short runs apart."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
