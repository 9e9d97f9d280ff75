"""The protocol of objectives, and the names of their terms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vaectl.base.plugs import Choice, Plug

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from vaectl.vae.vae import Network


class Objective(Plug, kind="objective"):
    """The loss that training minimizes, and the terms that it reports, in nats per image."""

    @property
    def best(self) -> str:
        """The term of the validation split whose highest value marks the best epoch."""
        return "elbo"

    def estimator(self, samples: int) -> str:
        """Describe how the reported numbers are estimated."""
        return f"ELBO, {samples} sample{'s' * (samples > 1)}"

    @abstractmethod
    def terms(
        self,
        network: Network,
        x: Float[Array, "batch h w c"],
        noise: Float[Array, "samples batch code"],
        epoch: Float[Array, ""],
    ) -> tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]:
        """Return the loss of each image, and the terms that are reported.

        Args:
            network: the encoder and the decoder.
            x: images in [0, 1].
            noise: standard normal numbers; L samples for each image.
            epoch: the epochs trained so far, with fractions.
        """


class ObjectiveChoice(Choice[Objective]):
    """The objective that training maximizes."""

    plugs = Objective
    default = "elbo"

    samples: Annotated[int, Field(ge=1, le=100_000)] = 1
    """The number of samples of z per image: L of the ELBO, K of the IWAE bound."""


def with_elbo(terms: Mapping[str, float]) -> dict[str, float]:
    """Add ELBO = -(NLL + KL) before its two parts, if both are there; higher is better."""
    if "kl" in terms and "nll" in terms:
        parts = {name: value for name, value in terms.items() if name != "elbo"}
        return {"elbo": -(terms["nll"] + terms["kl"]), **parts}
    return dict(terms)


def label(name: str) -> str:
    """Return a term's name for people: `elbo` as ELBO, `gradient_norm` as gradient norm."""
    return name.upper() if len(name) <= 4 else name.replace("_", " ")
