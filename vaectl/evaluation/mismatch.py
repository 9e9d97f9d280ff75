"""The mismatch between a trained model's codes and its prior, and the samples that it breaks."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vaectl.base.errors import DataError
from vaectl.base.shapes import shaped
from vaectl.data.arrays import Split
from vaectl.evaluation import aggregate
from vaectl.evaluation.aggregate import Posteriors
from vaectl.evaluation.samples import broken, broken_share
from vaectl.runs.diagnosis import Aggregate, Samples
from vaectl.runs.record import Estimate
from vaectl.runs.trained import Trained
from vaectl.vae.vae import VAE, Variables

CODES = 1000
"""Most codes whose densities are computed."""
_LEAST = 4
"""The least number of images with another image in their class: two for each of two means."""


def divergence(model: Trained, posteriors: Posteriors, seed: int) -> Aggregate:
    """Bound the divergence of the aggregate posterior from the prior.

    Args:
        model: a trained model.
        posteriors: those of images that it was not trained on.
        seed: of the codes.

    Raises:
        DataError: too few images have another one of their class.
    """
    rng = np.random.default_rng(seed)
    own = rng.permutation(_with_others(posteriors))[:CODES]
    z = _codes(posteriors, own, rng)
    log_p = np.asarray(_log_prior(model.vae, model.variables, jnp.asarray(z)))
    bounds = aggregate.divergence(z, own, posteriors, log_p)
    return Aggregate(
        posteriors=len(posteriors.mu),
        codes=len(own),
        least=Estimate.of(bounds.least),
        most=Estimate.of(bounds.most),
        width=bounds.width,
    )


def shapes(posteriors: int, code_size: int) -> tuple[Any, ...]:
    """Return the shapes of the arguments of `aggregate.compiled_densities`, of all codes."""
    z, mu = (shaped((count, code_size), np.float32) for count in (CODES, posteriors))
    own, classes = (shaped((count,), np.int32) for count in (CODES, posteriors))
    codes = aggregate.Codes(z, own, own, z, z)
    return codes, shaped((), np.float32), mu, mu, classes


def samples(
    model: Trained,
    posteriors: Posteriors,
    width: float,
    held_out: Split,
    *,
    count: int,
    seed: int,
) -> Samples:
    """Compare samples from the prior, and from the aggregate posterior, with the data.

    Args:
        model: a trained model.
        posteriors: those of training images.
        width: the width of the components of the mixture that decides which codes are rare.
        held_out: images that it was not trained on.
        count: how many samples.
        seed: of the codes.

    Raises:
        DataError: too few images have another image in their class, or the data set is missing or
            not the run's.
    """
    codes, dataset = model.prior(count, seed=seed), model.dataset()
    rng = np.random.default_rng(seed)
    own = rng.choice(_with_others(posteriors), count)
    real, told = _codes(posteriors, own, rng), posteriors.classes[own]
    labels = told if model.vae.classes else None
    ours, theirs = (
        broken(model.decode(z, labels).reshape(count, -1), dataset) for z in (codes, real)
    )
    wrong = ours.either
    nobody = np.full(count, -1)
    rare = np.quantile(aggregate.under(real, own, told, posteriors, width).others, 0.01)
    holes = aggregate.under(codes, nobody, told, posteriors, width).others < rare
    return Samples(
        count=count,
        prior=int(wrong.sum()),
        aggregate=int(theirs.either.sum()),
        ink=int(ours.ink.sum()),
        holes=int((wrong & holes).sum()),
        images=broken_share(held_out, dataset),
    )


def _with_others(posteriors: Posteriors) -> Int[np.ndarray, " some"]:
    """Return the images that have another one of their class.

    Raises:
        DataError: there are fewer than two for each half of the codes.
    """
    _, inverse, counts = np.unique(posteriors.classes, return_inverse=True, return_counts=True)
    found = np.flatnonzero(counts[inverse] > 1)
    if len(found) < _LEAST:
        raise DataError(
            f"only {len(found)} images share their class with another one, too few to diagnose a "
            "conditional model",
            hint=f"at least {_LEAST} are needed; --split chooses the held-out ones",
        )
    return found


def _codes(
    posteriors: Posteriors, own: Int[np.ndarray, " codes"], rng: np.random.Generator
) -> Float[np.ndarray, "codes code"]:
    """Draw a code from the posterior of each of some images."""
    mu, log_var = posteriors.mu[own], posteriors.log_var[own]
    noise = rng.standard_normal(mu.shape).astype(np.float32)
    codes: np.ndarray = mu + np.exp(0.5 * log_var) * noise
    return codes


@partial(jax.jit, static_argnames="vae")
def _log_prior(
    vae: VAE, variables: Variables, z: Float[Array, "codes code"]
) -> Float[Array, " codes"]:
    return vae.network(variables).prior.log_prob(z)
