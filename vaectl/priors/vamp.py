"""The VampPrior: a mixture of the posteriors of learned images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from vaectl.base.section import conflict
from vaectl.priors._mixture import Mixture
from vaectl.priors.base import Distribution, Encode, Prior

if TYPE_CHECKING:
    from flax import nnx

    from vaectl.base.plugs import Finding


class Vamp(Prior, name="vamp"):
    """The mean of the posteriors of K pseudo-inputs u_k, images that are learned.

        p(z) = 1/K sum_k q(z|u_k),   u_k = sigmoid(a_k)

    A step encodes the pseudo-inputs too, as it would K more images, but does not decode them.

    Tomczak & Welling 2018, eq. 9 (VampPrior); they clip a_k to [0, 1] instead.
    """

    components: Annotated[int, Field(ge=1, le=100_000)] = 500
    """K, the number of pseudo-inputs; the paper of the prior has 500."""

    @classmethod
    def against(cls, finding: Finding, experiment: Any) -> str | None:
        """Help where codes are far from the prior."""
        del experiment
        return "" if finding == "prior" else None

    def suits(self, experiment: Any) -> None:
        """Refuse a model that is told classes, which pseudo-inputs lack, or that averages batches.

        Batch normalization would treat a batch of pseudo-inputs otherwise than one of images.
        """
        if experiment.model.chosen.averages_batches:
            raise conflict(
                "the prior vamp encodes pseudo-inputs, and batch normalization would treat them "
                "otherwise in training than in evaluation",
                "--prior mixture, or a model without batch normalization",
            )
        if experiment.model.condition != "none":
            raise conflict(
                f"the prior vamp encodes images without classes, and model.condition is "
                f"{experiment.model.condition}",
                "--prior mixture, or --set model.condition=none",
            )

    def build(
        self, image_shape: tuple[int, int, int], code_size: int, rngs: nnx.Rngs
    ) -> nnx.Module:
        """Build dark pseudo-inputs with noise."""
        import jax
        from flax import nnx

        del code_size
        learned: Any = nnx.Module()
        shape = self.components, *image_shape
        learned.pseudo_inputs = nnx.Param(jax.random.normal(rngs.params(), shape) - 2.0)
        built: nnx.Module = learned
        return built

    def given(self, learned: Any, encode: Encode, code_size: int) -> Distribution:
        """Return the mixture of their posteriors."""
        import jax
        import jax.numpy as jnp

        del code_size
        mu, log_var = encode(jax.nn.sigmoid(learned.pseudo_inputs[...]))
        return Mixture(jnp.full(len(mu), -math.log(len(mu))), mu, log_var)
