"""Advice from a diagnosis: which key of the configuration to change."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaectl.base.plugs import Finding, Plug
    from vaectl.config.schema import Config
    from vaectl.runs.diagnosis import Diagnosis

MOST = 3
"""Most pieces of advice."""
AMORTIZATION = 2.0
"""Nats of the amortization gap of training images above which the encoder is too weak."""
ENCODER = 1.0
"""The difference of the amortization gaps of held-out and training images, in nats, above which the
encoder overfits."""
DECODER = 1.0
"""The same for log p(x), the decoder and the prior."""
APPROXIMATION = 2.0
"""Nats of the approximation gap above which a diagonal Gaussian is too simple."""
MARGINAL = 1.0
"""The lower bound on the divergence of the aggregate posterior from the prior, in nats, above which
another prior is advised."""
BROKEN = 0.05
"""The share of broken samples from the prior minus that of samples from the aggregate posterior,
above which another prior is advised."""
UNUSED = 0.25
"""The share of collapsed dimensions above which the code is too large, or the weight of the KL too
high."""


def advice(d: Diagnosis, settings: Config) -> list[str]:
    """Return at most three sentences, of the rules below in their order.

    A rule applies where its number is above its threshold, a constant of this module. A number with
    a standard error must also exceed zero by two standard errors; shares have none:

        overfitting            held-out minus training amortization gap > ENCODER, or log p(x) of
                               training minus held-out images > DECODER
        amortization           gap of training images > AMORTIZATION
        approximation          gap > APPROXIMATION, unless the objective has a bound of its own
        prior                  lower bound on KL(q(z) || p(z)) > MARGINAL, or share of broken
                               samples above that of the aggregate posterior by BROKEN
        collapse               share of collapsed dimensions > UNUSED

    If none applies, there is one sentence that says so.
    """
    found = [*islice(_rules(d, settings), MOST)]
    if found:
        return found
    return ["no gap is large: the model is balanced, and a larger one may still be better"]


def _rules(d: Diagnosis, settings: Config) -> Iterator[str]:
    held_out, model = d.held_out, settings.model.chosen
    size = "hidden_size" if "hidden_size" in type(model).model_fields else ""
    larger = f"a larger model.{size}" if size else "a larger encoder"
    overfitting = {
        name: by.mean
        for name, by, most in (
            ("decoder", d.decoder_overfitting, DECODER),
            ("encoder", d.encoder_overfitting, ENCODER),
        )
        if by.clear and by.mean > most
    }
    dropout = "model.dropout, " if "dropout" in type(model).model_fields else ""
    if overfitting:
        told = " and ".join(f"the {name} by {nats:.1f}" for name, nats in overfitting.items())
        yield (
            f"the model overfits, {told} nats: try early_stopping.patience, {dropout}"
            "optimizer.weight_decay, or more images by data.train_size"
        )
    gap = d.train.amortization
    if gap.clear and gap.mean > AMORTIZATION:
        longer = "" if overfitting else f", or epochs above {settings.epochs}"
        yield (
            f"the encoder misses the best posteriors by {gap.mean:.1f} nats even on training "
            f"images: try {larger}{longer}"
        )
    gap, has_own = held_out.approximation, settings.objective.chosen.best != "elbo"
    if gap.clear and gap.mean > APPROXIMATION and not has_own:
        closer = _choosing("objective", "approximation", settings)
        yield f"diagonal Gaussians miss the true posteriors by {gap.mean:.1f} nats: try {closer}"
    yield from _of_prior(d, settings)
    unused = d.code_size - d.active_units
    if unused > UNUSED * d.code_size:
        others = _choosing("objective", "collapse", settings)
        yield (
            f"{unused} of {d.code_size} dimensions of the code are not used: try {others}, or a "
            f"smaller model.code_size, such as {max(d.active_units, 1)}"
        )


def _choosing(kind: str, finding: Finding, settings: Config) -> str:
    """Return the key that chooses a plug, and the plugs that help and suit the other settings."""
    found = [
        f"{name} {words}".rstrip()
        for name, plug in getattr(settings, kind).sections().items()
        if (words := plug.against(finding, settings)) is not None and _suits(plug, settings)
    ]
    return f"{kind}.name {' or '.join(found)}"


def _suits(plug: type[Plug], settings: Config) -> bool:
    try:
        plug().suits(settings)
    except ValueError:  # pydantic's errors are of this kind
        return False
    return True


def _of_prior(d: Diagnosis, settings: Config) -> Iterator[str]:
    """Advise another prior, or more components if the prior has components already."""
    excess = 0.0
    if d.samples:
        excess = (d.samples.prior - d.samples.aggregate) / d.samples.count
    least = d.aggregate.least
    far = least.clear and least.mean > MARGINAL
    if not far and excess <= BROKEN:
        return
    reasons = []
    if far:
        reasons.append(f"the codes are at least {least.mean:.1f} nats away from the prior")
    if excess > BROKEN:
        reasons.append(f"{excess:.0%} more samples are broken from the prior than from real codes")
    components = getattr(settings.prior.chosen, "components", None)
    others = _choosing("prior", "prior", settings)
    change = f"prior.components above {components}" if components else others
    yield f"{' and '.join(reasons)}: try {change}; vaectl sample --from aggregate shows the decoder"
