"""A mixture of Gaussians as the distribution of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from vaectl.base.section import Positive
from vaectl.priors._mixture import Mixture
from vaectl.priors.base import Distribution, Encode, Prior

if TYPE_CHECKING:
    from flax import nnx

    from vaectl.base.plugs import Finding


class MixturePrior(Prior, name="mixture"):
    """A mixture of K Gaussians, whose weights, means and variances are learned.

        p(z) = sum_k w_k N(z; mu_k, diag(exp(log_var_k))),   w = softmax(weights)

    Initially the weights are equal, the variances 1, and the means drawn from N(0, spread^2).

    Tomczak & Welling 2018, section 4.2 (their baseline MoG).
    """

    components: Annotated[int, Field(ge=1, le=100_000)] = 100
    """K, the number of Gaussians."""
    spread: Positive = 1.0
    """Standard deviation of the initial means in each dimension."""

    @classmethod
    def against(cls, finding: Finding, experiment: Any) -> str | None:
        """Help where codes are far from the prior."""
        del experiment
        return "" if finding == "prior" else None

    def build(
        self, image_shape: tuple[int, int, int], code_size: int, rngs: nnx.Rngs
    ) -> nnx.Module:
        """Build weights, means and log-variances."""
        import jax
        import jax.numpy as jnp
        from flax import nnx

        del image_shape
        learned: Any = nnx.Module()
        shape = self.components, code_size
        learned.weights = nnx.Param(jnp.zeros(self.components))
        learned.mu = nnx.Param(self.spread * jax.random.normal(rngs.params(), shape))
        learned.log_var = nnx.Param(jnp.zeros(shape))
        built: nnx.Module = learned
        return built

    def given(self, learned: Any, encode: Encode, code_size: int) -> Distribution:
        """Return the mixture."""
        import jax

        del encode, code_size
        log_weights = jax.nn.log_softmax(learned.weights[...])
        return Mixture(log_weights, learned.mu[...], learned.log_var[...])
