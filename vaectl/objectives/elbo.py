"""The evidence lower bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaectl.objectives.base import Objective

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from vaectl.vae.vae import Network


class ELBO(Objective, name="elbo"):
    """The evidence lower bound, with L samples of z for the likelihood.

        ELBO(x) ~= -KL(q(z|x) || p(z)) + 1/L sum_l log p(x|z_l),
        z_l = mu + exp(log_var / 2) * noise_l

    The KL is exact for the standard normal prior, and a mean over the same samples for others.

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
        del epoch
        codes = network.draw(x, noise)
        nll = network.nll(codes, x)
        kl = network.prior.kl(codes)
        return kl + nll, {"kl": kl, "nll": nll}
