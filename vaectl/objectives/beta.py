"""The evidence lower bound with a weighted KL divergence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.base.section import NonNegative
from vaectl.objectives.base import Objective

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from vaectl.vae.vae import Network


class Beta(Objective, name="beta"):
    """Minimize NLL + w sum_j max(KL_j, free), the KL of each dimension j of the code.

        w = beta min(epoch / warmup_epochs, 1)

    The reported terms are the unweighted KL and NLL and their ELBO, so that runs can be compared.

    Higgins et al. 2017, eq. 4 (beta); Bowman et al. 2016, section 3.1 (warm-up); Kingma et al.
    2016, eq. 15 (free nats; here for each image, not for the mean of a batch).
    """

    beta: NonNegative = 1.0
    """Weight of the KL; 1 gives the ELBO."""
    warmup_epochs: NonNegative = 0.0
    """Epochs over which the weight rises linearly from zero; 0: no warm-up."""
    free_nats: NonNegative = 0.0
    """In each dimension of the code, a KL below this adds this much to the loss."""

    @property
    def short_name(self) -> str:
        """The name with the weight of the KL, as in `beta4`."""
        return f"{self.name}{self.beta:g}"

    def terms(
        self,
        network: Network,
        x: Float[Array, "batch h w c"],
        noise: Float[Array, "samples batch code"],
        epoch: Float[Array, ""],
    ) -> tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]:
        """Return the weighted loss of each image, and its KL and NLL."""
        import jax.numpy as jnp

        from vaectl.vae import posterior

        mu, log_var = network.encode(x)
        nll = -jnp.mean(network.log_prob(posterior.draw(mu, log_var, noise), x), axis=0)
        by_dimension = posterior.kl(mu[..., None], log_var[..., None])
        weight = jnp.float32(self.beta)
        if self.warmup_epochs:
            weight *= jnp.minimum(epoch / self.warmup_epochs, 1.0)
        loss = nll + weight * jnp.sum(jnp.maximum(by_dimension, self.free_nats), axis=-1)
        return loss, {"kl": jnp.sum(by_dimension, axis=-1), "nll": nll}
