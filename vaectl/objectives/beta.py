"""The evidence lower bound with a weighted KL divergence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vaectl.base.section import NonNegative, conflict
from vaectl.objectives.base import Objective

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from vaectl.base.plugs import Finding
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
    """The least KL that counts in each dimension of the code; only with a prior whose KL is a sum
    over dimensions."""

    def suits(self, experiment: Any) -> None:
        """Refuse free nats with a prior whose KL is not a sum over dimensions."""
        if self.free_nats and not experiment.prior.chosen.standard:
            raise conflict(
                "objective.beta.free_nats counts each dimension of the code alone, and the KL "
                f"from the prior {experiment.prior.name} is not a sum over dimensions",
                "--set objective.beta.free_nats=0, or --prior standard_normal",
            )

    @classmethod
    def against(cls, finding: Finding, experiment: Any) -> str | None:
        """Help where dimensions of the code are not used."""
        if finding != "collapse":
            return None
        free = " or free_nats" if experiment.prior.chosen.standard else ""
        return f"with warmup_epochs{free}"

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

        codes, prior = network.draw(x, noise), network.prior
        nll = network.nll(codes, x)
        if network.vae.prior.standard:
            by_dimension = prior.kl_by_dimension(codes)
            kl = jnp.sum(by_dimension, axis=-1)
            penalty = jnp.sum(jnp.maximum(by_dimension, self.free_nats), axis=-1)
        else:
            kl = penalty = prior.kl(codes)
        weight = jnp.float32(self.beta)
        if self.warmup_epochs:
            weight *= jnp.minimum(epoch / self.warmup_epochs, 1.0)
        return nll + weight * penalty, {"kl": kl, "nll": nll}
