"""The importance-weighted bound."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from vaectl.base.section import conflict
from vaectl.objectives.base import Objective

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from vaectl.base.plugs import Finding
    from vaectl.vae.posterior import Codes
    from vaectl.vae.vae import Network


class IWAE(Objective, name="iwae"):
    """The importance-weighted lower bound on log p(x), with K = `objective.samples` samples.

        IWAE_K(x) = log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x),   z_k ~ q(z|x)

    For K = 1 it is the ELBO with a sampled KL; it rises with K towards log p(x).

    Burda et al. 2016, eq. 8; for the doubly reparameterized gradient Tucker et al. 2019, eq. 8.
    """

    gradient: Literal["reparameterized", "doubly_reparameterized"] = "reparameterized"
    """The encoder's gradient: the gradient of the bound, or another estimate of it, whose
    signal-to-noise ratio does not fall as K grows, at the cost of one more pass through the
    decoder."""

    def suits(self, experiment: Any) -> None:
        """Refuse the doubly reparameterized gradient of layers that act differently each time."""
        model = experiment.model.chosen
        if self.gradient == "doubly_reparameterized" and (model.draws or model.averages_batches):
            raise conflict(
                "objective.iwae.gradient doubly_reparameterized decodes the same codes again, and "
                "dropout, noise or batch normalization would change the result",
                "train without them, or set objective.iwae.gradient to reparameterized",
            )

    @classmethod
    def against(cls, finding: Finding, experiment: Any) -> str | None:
        """Help where Gaussians are far from the true posteriors."""
        del experiment
        if finding != "approximation":
            return None
        return "with objective.samples 5, which trains for a closer bound"

    @property
    def best(self) -> str:
        """The bound itself, not its ELBO."""
        return "iwae"

    def estimator(self, samples: int) -> str:
        """Name K, and the samples of the ELBO reported with the bound."""
        return f"IWAE bound, K = {samples}; {super().estimator(samples)}"

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
        if self.gradient == "doubly_reparameterized":
            return -_with_other_gradient(network, x, codes, log_weights, bound), terms
        return -bound, terms


def _with_other_gradient(
    network: Network,
    x: Float[Array, "batch h w c"],
    codes: Codes,
    log_weights: Float[Array, "samples batch"],
    bound: Float[Array, " batch"],
) -> Float[Array, " batch"]:
    """Return the bound, with the doubly reparameterized gradient.

        decoder, prior   sum_k v_k d log w_k,     v = softmax(log w)
        encoder          sum_k v_k^2 (d log w_k / d z_k) d z_k

    Tucker et al. 2019, eq. 8.
    """
    import jax
    import jax.numpy as jnp

    stopped = jax.lax.stop_gradient
    fixed, v = stopped(codes), stopped(jax.nn.softmax(log_weights, axis=0))

    def joint(z: Float[Array, "samples batch code"]) -> Float[Array, "samples batch"]:
        return network.log_prob(z, x) + network.prior.log_prob(z)

    def log_weight(z: Float[Array, "samples batch code"]) -> Float[Array, ""]:
        log_q = -0.5 * jnp.square(z - fixed.mu) * jnp.exp(-fixed.log_var)  # but for constants
        return jnp.sum(joint(z)) - jnp.sum(log_q)

    slope = stopped(jax.grad(log_weight)(fixed.z))
    of_encoder = jnp.sum(jnp.square(v)[..., None] * slope * codes.z, axis=(0, 2))
    found = jnp.sum(v * joint(fixed.z), axis=0) + of_encoder
    return stopped(bound) + found - stopped(found)
