"""The contents of diagnosis.json."""

from typing import Annotated, Literal

from pydantic import Field

from vaectl.runs.record import Estimate, Natural, Part, Positive, Words

DIAGNOSIS_FORMAT = 1

Count = Annotated[float, Field(ge=0)]


class Annealing(Part):
    """Estimates of log p(x) on the same images, in nats per image."""

    log_p: Estimate
    """The estimate by annealed importance sampling."""
    effective: Count
    """Effective sample size over chains, as a mean over images."""
    acceptance: Annotated[float, Field(ge=0, le=1)]
    """The share of accepted transitions."""
    importance_weighted: Estimate
    """The importance-weighted bound IW-K."""
    importance_effective: Count
    """Effective sample size of the K samples, as a mean over images."""
    difference: Estimate
    """The annealed estimate minus IW-K, image by image."""


class Nats(Part):
    """The gaps of a split, in nats per image.

    log p(x) = -NLL - KL + amortization + approximation

    NLL and KL are means over `images` images, the two gaps over `subset` of them. So log p(x) is
    more precise than its mean over the subset alone.
    """

    split: Literal["train", "validation", "test"]
    images: Positive
    subset: Positive
    nll: Estimate
    kl: Estimate
    elbo: Estimate
    amortization: Estimate
    """L[q*] - L[q]: q* is the best diagonal Gaussian of an image, q the encoder's."""
    approximation: Estimate
    """log p(x) - L[q*]."""
    log_p: Estimate
    annealing: Annealing


class Bracketed(Part):
    """Bounds on log p(x) of simulated images, in nats per image; both hold in expectation."""

    images: Positive
    lower: Estimate
    upper: Estimate
    gap: Estimate
    """Upper minus lower bound, image by image."""


class Aggregate(Part):
    """The aggregate posterior q(z) against the prior p(z), in nats.

    KL(q(z|x) || p(z)) = mutual information + KL(q(z) || p(z)), as means over images

    Neither can be estimated well where the code has many dimensions, but both have bounds in
    expectation, which meet where N is large enough.
    """

    posteriors: Positive
    """N, the posteriors that the mixture q(z) is made of; of the same split as the codes."""
    codes: Positive
    least: Estimate
    """A lower bound on KL(q(z) || p(z)), by a mixture of wider posteriors of other images."""
    most: Estimate
    """An upper bound, by the mixture that includes the code's own posterior. By it the mutual
    information is at most log N, even if its true value is larger."""
    width: Annotated[float, Field(ge=0, le=1)]
    """The width of the posteriors in the lower bound: see `vaectl.evaluation.aggregate`."""


class Samples(Part):
    """Decoded codes that look broken: see `vaectl.evaluation.samples`."""

    count: Positive
    """The number of codes from the prior, and of those from the aggregate posterior."""
    prior: Natural
    """The number of broken samples from the prior."""
    aggregate: Natural
    """The number of broken samples from the aggregate posterior."""
    ink: Natural
    """The number of broken samples from the prior whose ink is beyond that of nearly all images;
    the others are only too far from the training images."""
    holes: Natural
    """The number of broken samples from the prior whose code has a density under the aggregate
    posterior that is below that of 99 % of the codes of the aggregate posterior."""
    images: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of held-out images that look broken by the same limits."""


class Diagnosis(Part):
    """The result of `vaectl diagnose`."""

    format_version: int = DIAGNOSIS_FORMAT
    run: Words
    epoch: Natural
    step: Natural | None = None
    where: Words = ""
    """The checkpoint's place in the training, in words."""
    binarization: Words
    conditional: bool = False
    """True if the model is told the class y of each image: p(x) is p(x|y), and q(z) is q(z|y)."""
    seed: Natural
    origin: Literal["prior", "posterior"]
    """The distribution that chains start from."""
    chains: Positive
    temperatures: Positive
    importance_samples: Positive
    held_out: Nats
    train: Nats
    bracket: Bracketed
    aggregate: Aggregate
    code_size: Positive
    active_units: Natural
    """The number of dimensions whose posterior mean has a variance over images above 0.01."""
    encoder_overfitting: Estimate
    """Amortization gap of held-out images minus that of training images."""
    decoder_overfitting: Estimate
    """log p(x) of training images minus that of held-out images."""
    samples: Samples | None = None
    advice: tuple[Words, ...] = Field((), strict=False)
    warnings: tuple[Words, ...] = Field((), strict=False)
    seconds: Annotated[float, Field(ge=0)]
    """The time that it took; without that of parts which an interrupted diagnosis had finished."""

    @property
    def of_image(self) -> str:
        """The symbol of the probability of an image."""
        return "p(x|y)" if self.conditional else "p(x)"

    @property
    def of_codes(self) -> str:
        """The symbol of the aggregate posterior."""
        return "q(z|y)" if self.conditional else "q(z)"
