"""The importance-weighted bound."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vaectl.objectives.base import Objective

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from vaectl.vae.vae import Network


class IWAE(Objective, name="iwae"):
    """The importance-weighted lower bound on log p(x), with K = `objective.samples` samples.

        IWAE_K(x) = log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x),   z_k ~ q(z|x)

    For K = 1 it is the ELBO with a sampled KL; it rises with K towards log p(x).

    Burda et al. 2016, eq. 8.
    """

    @property
    def best(self) -> str:
        """The bound itself, not its ELBO."""
        return "iwae"

    def estimator(self, samples: int) -> str:
        """Name K, and the samples of the ELBO reported with the bound."""
        return f"IWAE bound, K = {samples}; ELBO, {samples} sample{'s' * (samples > 1)}"

    def estimators(self, samples: int) -> dict[str, str]:
        """Name K of the bound."""
        return {**super().estimators(samples), "iwae": f"K = {samples}"}

    def terms(
        self,
        network: Network,
        x: Float[Array, "batch h w c"],
        noise: Float[Array, "samples batch code"],
        epoch: Float[Array, ""],
    ) -> tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]:
        """Return the negative bound of each image; the bound, and the ELBO's KL and NLL."""
        import jax
        import jax.numpy as jnp

        del epoch
        codes, prior = network.draw(x, noise), network.prior
        log_prob = network.log_prob(codes.z, x)
        log_weights = log_prob + prior.log_ratio(codes)
        bound = jax.nn.logsumexp(log_weights, axis=0) - math.log(len(noise))
        terms = {"iwae": bound, "kl": prior.kl(codes), "nll": -jnp.mean(log_prob, axis=0)}
        return -bound, terms
