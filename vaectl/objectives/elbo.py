"""The evidence lower bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.objectives.base import Objective

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from vaectl.vae.vae import Network


class ELBO(Objective, name="elbo"):
    """The evidence lower bound, with an analytic KL and L samples of z for the likelihood.

        ELBO(x) ~= -KL(q(z|x) || p(z)) + 1/L sum_l log p(x|z_l),
        z_l = mu + exp(log_var / 2) * noise_l

    Kingma & Welling 2013, eq. 10 (the paper's eq. 10 too).
    """

    def terms(
        self,
        network: Network,
        x: Float[Array, "batch h w c"],
        noise: Float[Array, "samples batch code"],
        epoch: Float[Array, ""],
    ) -> tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]:
        """Return NLL + KL of each image, and both terms."""
        import jax.numpy as jnp

        from vaectl.vae import posterior

        del epoch
        mu, log_var = network.encode(x)
        log_prob = network.log_prob(posterior.draw(mu, log_var, noise), x)
        kl, nll = posterior.kl(mu, log_var), -jnp.mean(log_prob, axis=0)
        return kl + nll, {"kl": kl, "nll": nll}
